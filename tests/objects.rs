//! Archives are put, confirmed, downloaded and removed: in a folder and in a real S3 server, by the same steps.

use reqwest::StatusCode;
use warden::protocol::{PartTag, Put, Upload};
use warden::secret::Secret;
use warden::supervisor::object_store::{Error, Local, Objects, S3, S3Settings, local};

use crate::support::objects::{KEY, Place, always, announced, content, http, now, serve};
use crate::support::s3::BUCKET;

/// Two parts of 16 MiB and a rest.
const LARGE: usize = (33 << 20) + 5;

#[tokio::test]
async fn an_archive_goes_whole_and_comes_back_as_it_was() {
    for place in Place::both().await {
        let content = content(100_000);
        place.put_all(&content, &announced(&content), 1 << 20).await;
        assert!(place.lies_there());
        let url = place.objects.download(KEY, "snapshot-1.zip", &place.base, now());
        let response = place.http.get(&url).send().await.unwrap();
        assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"snapshot-1.zip\"");
        assert_eq!(response.bytes().await.unwrap(), content);
        let some = place.http.get(&url).header("range", "bytes=10-19").send().await.unwrap();
        assert_eq!(some.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(some.bytes().await.unwrap(), content[10..20]);
        place.objects.delete(KEY).await.unwrap();
        place.objects.delete(KEY).await.unwrap();
        assert!(!place.lies_there());
        assert_eq!(place.http.get(&url).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_large_archive_goes_in_parts_which_may_come_twice_and_in_any_order() {
    for place in Place::both().await {
        let content = content(LARGE);
        let announced = announced(&content);
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let mut tags = Vec::new();
        for number in [3, 1, 2, 1] {
            let Upload::Parts { part_bytes, parts } =
                place.objects.grant(KEY, &announced, &begun, &[number], now())
            else {
                panic!("33 MiB go in parts");
            };
            assert_eq!((part_bytes, parts.len(), parts[0].number), (16 << 20, 1, number));
            let chunk = content.chunks(part_bytes as usize).nth(number as usize - 1).unwrap();
            if tags.len() < 3 {
                let early = place.objects.finish(KEY, &announced, &begun, &tags).await;
                assert!(matches!(early, Err(Error::Missing(_))), "{early:?}");
            }
            let response = place.send(&parts[0].put, chunk.to_vec()).await;
            let etag = response.headers()["etag"].to_str().unwrap().to_owned();
            tags.retain(|tag: &PartTag| tag.number != number);
            tags.push(PartTag { number, etag });
        }
        place.objects.finish(KEY, &announced, &begun, &tags).await.unwrap();
        place.objects.finish(KEY, &announced, &begun, &tags).await.unwrap();
        let url = place.objects.download(KEY, "a.zip", &place.base, now());
        assert_eq!(place.http.get(&url).send().await.unwrap().bytes().await.unwrap(), content);
    }
}

#[tokio::test]
async fn a_part_that_comes_again_with_other_bytes_is_not_believed() {
    for place in Place::both().await {
        let content = content(LARGE);
        let announced = announced(&content);
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let mut tags = Vec::new();
        // All of them as announced, and hashed while they came; then the first one anew.
        for number in [1, 2, 3, 1] {
            let Upload::Parts { part_bytes, parts } =
                place.objects.grant(KEY, &announced, &begun, &[number], now())
            else {
                panic!("33 MiB go in parts");
            };
            let chunk = content.chunks(part_bytes as usize).nth(number as usize - 1).unwrap();
            let is_again = tags.len() == 3;
            let body = if is_again { vec![0; chunk.len()] } else { chunk.to_vec() };
            let response = place.send(&parts[0].put, body).await;
            let etag = response.headers()["etag"].to_str().unwrap().to_owned();
            tags.retain(|tag: &PartTag| tag.number != number);
            tags.push(PartTag { number, etag });
            if tags.len() == 3 && !is_again {
                // What hashes them does not tell when it has; it has long before this.
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
        tags.sort_by_key(|tag| tag.number);
        let finished = place.objects.finish(KEY, &announced, &begun, &tags).await;
        assert!(matches!(finished, Err(Error::Mismatch(_))), "{finished:?}");
        assert!(!place.lies_there());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_held_up_brings_nothing_into_an_archive_that_is_finished() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let place = Place::folder().await;
    let content = content(16 << 20);
    let announced = announced(&content);
    let begun = place.objects.begin(KEY, &announced, 64 << 20).await.unwrap();
    let Upload::Whole { put } = place.objects.grant(KEY, &announced, &begun, &[], now()) else {
        panic!("16 MiB go whole");
    };
    let address = place.base.strip_prefix("http://").unwrap();
    let mut held_up = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("PUT {} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", put.url, content.len());
    held_up.write_all(head.as_bytes()).await.unwrap();
    held_up.write_all(&vec![0; content.len() / 4]).await.unwrap();
    // What it brings is on disk, under the bytes of another.
    crate::support::until("the first bytes are there", || (place.partial_bytes() > 0).then_some(()));
    assert_eq!(place.send(&put, content.clone()).await.status(), StatusCode::OK);
    let finished = place.objects.finish(KEY, &announced, &begun, &[]).await;
    held_up.write_all(&vec![0; content.len() / 4]).await.unwrap();
    let mut answer = [0; 12];
    held_up.read_exact(&mut answer).await.unwrap();
    // It has the answer, and sends what it had begun to send all the same.
    held_up.write_all(&vec![0; content.len() / 2]).await.unwrap();
    match finished {
        Ok(()) => {
            assert_eq!(&answer, b"HTTP/1.1 403");
            let url = place.objects.download(KEY, "a.zip", &place.base, now());
            assert_eq!(place.http.get(&url).send().await.unwrap().bytes().await.unwrap(), content);
            assert_eq!(place.stored(), [KEY.path()]);
        }
        // Its bytes came last: then it is no archive, and that was seen.
        Err(error) => assert!(matches!(error, Error::Mismatch(_)), "{error:?}"),
    }
}

#[tokio::test]
async fn parts_that_no_archive_has_are_not_granted() {
    for place in Place::both().await {
        let announced = announced(&content(LARGE));
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let Upload::Parts { parts, .. } =
            place.objects.grant(KEY, &announced, &begun, &[0, 2, 4, u32::MAX], now())
        else {
            panic!("33 MiB go in parts");
        };
        assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [2]);
    }
}

#[tokio::test]
async fn an_archive_that_is_not_what_was_announced_is_no_object() {
    for place in Place::both().await {
        let content = content(LARGE);
        let mut announced = announced(&content);
        announced.sha256[0] ^= 1;
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let Upload::Parts { part_bytes, parts } = place.objects.grant(KEY, &announced, &begun, &[], now())
        else {
            panic!("33 MiB go in parts");
        };
        let mut tags = Vec::new();
        for (chunk, part) in content.chunks(part_bytes as usize).zip(parts) {
            let response = place.send(&part.put, chunk.to_vec()).await;
            let etag = response.headers()["etag"].to_str().unwrap().to_owned();
            tags.push(PartTag { number: part.number, etag });
        }
        let finished = place.objects.finish(KEY, &announced, &begun, &tags).await;
        assert!(matches!(finished, Err(Error::Mismatch(_))), "{finished:?}");
        assert!(!place.lies_there());
    }
}

#[tokio::test]
async fn a_body_of_another_size_or_content_than_granted_is_refused() {
    for place in Place::both().await {
        let content = content(1000);
        let announced = announced(&content);
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let Upload::Whole { put } = place.objects.grant(KEY, &announced, &begun, &[], now()) else {
            panic!("1000 bytes go whole");
        };
        for body in [content[..999].to_vec(), [content.as_slice(), b"x"].concat(), Vec::new()] {
            let status = place.send(&put, body).await.status();
            assert!(status.is_client_error(), "{status}");
        }
        let finished = place.objects.finish(KEY, &announced, &begun, &[]).await;
        assert!(matches!(finished, Err(Error::Missing(_))), "{finished:?}");
        let mut other = content.clone();
        other[0] ^= 1;
        place.send(&put, other).await;
        assert!(place.objects.finish(KEY, &announced, &begun, &[]).await.is_err());
        assert!(!place.lies_there());
    }
}

#[tokio::test]
async fn an_address_is_good_for_one_verb_one_object_one_size_and_a_while() {
    for place in Place::both().await {
        let content = content(1000);
        let announced = announced(&content);
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let Upload::Whole { put } = place.objects.grant(KEY, &announced, &begun, &[], now()) else {
            panic!("1000 bytes go whole");
        };
        let foreign =
            |from: &str, to: &str| Put { url: put.url.replace(from, to), headers: put.headers.clone() };
        assert!(put.url.contains("610809900976570889"));
        let other_object = foreign("610809900976570889", "610809900976570888");
        assert_eq!(place.send(&other_object, content.clone()).await.status(), StatusCode::FORBIDDEN);
        let get = format!("{}{}", place.base, put.url);
        assert_eq!(place.http.get(get).send().await.unwrap().status(), StatusCode::FORBIDDEN);
        let earlier = now() - jiff::Span::new().minutes(16);
        let Upload::Whole { put: old } = place.objects.grant(KEY, &announced, &begun, &[], earlier) else {
            panic!("1000 bytes go whole");
        };
        assert_eq!(place.send(&old, content.clone()).await.status(), StatusCode::FORBIDDEN);
        assert!(!place.lies_there());

        place.put_all(&content, &announced, 1 << 20).await;
        let url = place.objects.download(KEY, "a.zip", &place.base, now());
        assert_eq!(place.http.put(&url).body("x").send().await.unwrap().status(), StatusCode::FORBIDDEN);
        assert!(!place.http.delete(&url).send().await.unwrap().status().is_success());
        let late = place.objects.download(KEY, "a.zip", &place.base, now() - jiff::Span::new().minutes(6));
        assert_eq!(place.http.get(&late).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_finished_upload_is_known_again_by_a_supervisor_that_was_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(LARGE);
    let announced = announced(&content);
    let mut place = Place::folder().await;
    place.objects = Objects::Local(Local::open(folder.path()).unwrap());
    let Objects::Local(kept) = &place.objects else { panic!("a folder") };
    place.base = serve(local::routes(kept.clone(), always())).await;
    let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
    let Upload::Parts { part_bytes, parts } = place.objects.grant(KEY, &announced, &begun, &[], now()) else {
        panic!("33 MiB go in parts");
    };
    for (chunk, part) in content.chunks(part_bytes as usize).zip(parts) {
        assert_eq!(place.send(&part.put, chunk.to_vec()).await.status(), StatusCode::OK);
    }
    // Another process over the same folder: nothing of the parts is in its memory.
    let again = Objects::Local(Local::open(folder.path()).unwrap());
    again.finish(KEY, &announced, &begun, &[]).await.unwrap();
    again.finish(KEY, &announced, &begun, &[]).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join(KEY.path())).unwrap(), content);
    // And its signing key is the same, so addresses given out before stay good.
    let url = again.download(KEY, "a.zip", &place.base, now());
    assert_eq!(place.http.get(&url).send().await.unwrap().bytes().await.unwrap(), content);
}

#[tokio::test]
async fn no_error_of_a_store_tells_an_address_or_a_key() {
    let settings = S3Settings {
        endpoint: "http://127.0.0.1:9".to_owned(),
        region: "r".to_owned(),
        bucket: BUCKET.to_owned(),
        access_key_id: "canary-id".to_owned(),
        secret_access_key: Secret::new("canary-secret"),
        virtual_host: false,
    };
    let objects = Objects::S3(Box::new(S3::new(&settings, http()).unwrap()));
    let told = format!(
        "{:?} {:?} {:?} {settings:?} {objects:?}",
        objects.ready().await,
        objects.delete(KEY).await,
        objects.begin(KEY, &announced(&content(LARGE)), 1 << 20).await,
    );
    assert!(told.contains("Unavailable"), "{told}");
    assert!(!told.contains("canary-secret") && !told.contains("Signature"), "{told}");
}
