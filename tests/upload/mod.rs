//! An archive gets from a node to both kinds of object store, whatever breaks on the way.

mod faults;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;
use warden::agent::upload::{AT_ONCE, Archive, Failure, STALLED, Uploader, forget};
use warden::background_io;
use warden::protocol::{Upload, UploadGrant, UploadRefusal};
use warden::supervisor::object_store::{Announced, Begun};

use crate::support::objects::{KEY, Place, announced, content, http, now};
use crate::support::resident;

/// Four parts of 16 MiB and a rest.
const LARGE: usize = (65 << 20) + 3;

/// A node with an archive, and a Supervisor that grants.
struct Sending {
    place: Place,
    content: Vec<u8>,
    announced: Announced,
    begun: Begun,
    folder: tempfile::TempDir,
    uploader: Uploader,
    asked: Mutex<Vec<Vec<u32>>>,
}

impl Sending {
    async fn of(size: usize, place: Place) -> Sending {
        let content = content(size);
        let announced = announced(&content);
        let begun = place.objects.begin(KEY, &announced, 1 << 20).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1.zip"), &content).unwrap();
        let supervisor = if place.base.is_empty() { "http://127.0.0.1:9" } else { &place.base };
        let uploader = Uploader {
            own: http(),
            other: http(),
            supervisor: supervisor.parse().unwrap(),
            allowed: Box::new(|url| url.host_str() == Some("127.0.0.1")),
            bytes_per_second: None,
            patience: STALLED,
            at_once: AT_ONCE,
            random: || 0.0,
        };
        let asked = Mutex::default();
        Sending { place, content, announced, begun, folder, uploader, asked }
    }

    /// In an order that can be told beforehand.
    fn one_by_one(mut self) -> Sending {
        self.uploader.at_once = 1;
        self
    }

    /// Another archive of so many bytes instead.
    async fn shorten(&mut self, size: usize) {
        self.content.truncate(size);
        self.announced = announced(&self.content);
        std::fs::write(self.path(), &self.content).unwrap();
        self.place.objects.abort(KEY, &self.begun).await.unwrap();
        self.begun = self.place.objects.begin(KEY, &self.announced, 1 << 20).await.unwrap();
    }

    fn archive(&self) -> Archive {
        Archive { path: self.path(), size: self.announced.size }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("1.zip")
    }

    /// A grant for what is asked for, of at most `parts` parts.
    fn grant(&self, wanted: &[u32], parts: usize) -> UploadGrant {
        self.asked.lock().unwrap().push(wanted.to_vec());
        let mut upload = self.place.objects.grant(KEY, &self.announced, &self.begun, wanted, now());
        if let Upload::Parts { parts: granted, .. } = &mut upload {
            granted.truncate(parts);
        }
        UploadGrant { request: 1, upload, expires_ms: 60_000 }
    }

    async fn send(&self, parts: usize) -> Result<(), Failure> {
        let stop = CancellationToken::new();
        let ask = |wanted: Vec<u32>| std::future::ready(Ok(self.grant(&wanted, parts)));
        let tags = self.uploader.upload(&self.archive(), ask, |_| (), &stop).await?;
        self.place.objects.finish(KEY, &self.announced, &self.begun, &tags).await.unwrap();
        Ok(())
    }

    async fn arrived(&self) -> bool {
        let url = self.place.objects.download(KEY, "a.zip", &self.place.base, now());
        let answer = self.place.http.get(url).send().await.unwrap();
        answer.status() == StatusCode::OK && answer.bytes().await.unwrap() == self.content
    }

    fn asked(&self) -> Vec<Vec<u32>> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers the requests counted from 1 that `answer` has something for, and lets the others through.
async fn folder_with(answer: fn(u32) -> Option<Response>) -> (Place, Arc<AtomicU32>) {
    let requests = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&requests);
    let front = move |request: Request, next: Next| {
        let count = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            match answer(count) {
                Some(response) => response,
                None => next.run(request).await,
            }
        }
    };
    (Place::folder_behind(move |routes| routes.layer(from_fn(front))).await, requests)
}

#[tokio::test]
async fn small_and_large_archives_arrive_in_both_stores() {
    for size in [1000, LARGE] {
        for place in Place::both().await {
            let sending = Sending::of(size, place).await;
            sending.send(2).await.unwrap();
            assert!(sending.arrived().await);
        }
    }
}

#[tokio::test]
async fn an_archive_stays_in_the_memory_of_neither_side() {
    // Not below /tmp, which may be memory itself.
    let folder = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for size in [1000, LARGE] {
        let place = Place::folder_at(folder(), |routes| routes).await;
        let mut sending = Sending::of(size, place).await;
        sending.folder = folder();
        std::fs::write(sending.path(), &sending.content).unwrap();
        let file = std::fs::File::open(sending.path()).unwrap();
        file.sync_all().unwrap();
        background_io::forget(&file);
        assert_eq!(resident(&sending.path()), 0, "this filesystem keeps what it was told to forget");
        sending.send(2).await.unwrap();
        assert_eq!((resident(&sending.path()), resident(&sending.place.object())), (0, 0), "{size}");
        assert!(sending.arrived().await);
    }
}

#[tokio::test]
async fn an_address_that_ran_out_at_three_quarters_is_replaced_and_the_upload_goes_on() {
    let (place, requests) =
        folder_with(|count| (count == 4).then(|| StatusCode::FORBIDDEN.into_response())).await;
    let sending = Sending::of(LARGE, place).await.one_by_one();
    sending.send(32).await.unwrap();
    assert_eq!(sending.asked(), [vec![], vec![4, 5]]);
    assert_eq!(requests.load(Ordering::SeqCst), 6);
    assert!(sending.arrived().await);
}

#[tokio::test]
async fn a_store_that_is_busy_or_broken_for_a_while_gets_the_archive_later() {
    let (place, _) = folder_with(|count| match count {
        1 => Some((StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response()),
        2 => Some(StatusCode::TOO_MANY_REQUESTS.into_response()),
        4 => Some(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        _ => None,
    })
    .await;
    let sending = Sending::of(LARGE, place).await.one_by_one();
    sending.send(32).await.unwrap();
    assert_eq!(sending.asked(), [vec![], vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5], vec![2, 3, 4, 5]]);
    assert!(sending.arrived().await);
}

/// How many parts were on their way at the same time at most, when the limit of the bandwidth is such.
async fn at_once(bytes_per_second: Option<u64>) -> usize {
    let (now_there, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let front = move |request: Request, next: Next| {
        let (now_there, most) = (Arc::clone(&now_there), Arc::clone(&most));
        async move {
            most.fetch_max(now_there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Time for another one to come.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let response = next.run(request).await;
            now_there.fetch_sub(1, Ordering::SeqCst);
            response
        }
    };
    let place = Place::folder_behind(move |routes| routes.layer(from_fn(front))).await;
    let mut sending = Sending::of(LARGE, place).await;
    sending.uploader.bytes_per_second = bytes_per_second;
    sending.send(32).await.unwrap();
    assert!(sending.arrived().await);
    seen.load(Ordering::SeqCst)
}

#[tokio::test]
async fn two_parts_are_on_their_way_at_once_and_one_where_the_bandwidth_has_a_limit() {
    assert_eq!(at_once(None).await, 2);
    assert_eq!(at_once(Some(1 << 30)).await, 1);
}

#[tokio::test]
async fn two_parts_that_fail_together_are_one_failure() {
    // Each round asks for two parts, so four refusals are two in a row: three would end it.
    let (place, _) = folder_with(|count| (count <= 4).then(|| StatusCode::FORBIDDEN.into_response())).await;
    let sending = Sending::of(LARGE, place).await;
    sending.send(32).await.unwrap();
    assert_eq!(sending.asked(), [vec![], vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]]);
    assert!(sending.arrived().await);
}

#[tokio::test]
async fn what_will_never_be_taken_ends_in_a_clear_state() {
    let failure = async |answer| {
        let (place, requests) = folder_with(answer).await;
        let sending = Sending::of(1000, place).await;
        (sending.send(1).await.unwrap_err(), requests.load(Ordering::SeqCst))
    };
    let (error, requests) = failure(|_| Some(StatusCode::NOT_FOUND.into_response())).await;
    assert!(matches!(error, Failure::NotFound) && requests == 1, "{error}");
    let (error, requests) = failure(|_| Some(StatusCode::PAYLOAD_TOO_LARGE.into_response())).await;
    assert!(matches!(error, Failure::TooLarge) && requests == 1, "{error}");
    let (error, requests) = failure(|_| Some(StatusCode::FORBIDDEN.into_response())).await;
    assert!(matches!(error, Failure::Forbidden(3)) && requests == 3, "{error}");
}

#[tokio::test]
async fn what_has_arrived_before_the_agent_died_is_not_sent_again() {
    for place in Place::both().await {
        let sending = Sending::of(LARGE, place).await;
        let stop = CancellationToken::new();
        let (archive, first) = (sending.archive(), AtomicU32::new(0));
        let died = sending
            .uploader
            .upload(
                &archive,
                |wanted: Vec<u32>| {
                    if first.fetch_add(1, Ordering::SeqCst) == 1 {
                        stop.cancel();
                    }
                    std::future::ready(Ok(sending.grant(&wanted, 3)))
                },
                |_| (),
                &stop,
            )
            .await;
        assert!(matches!(died, Err(Failure::Cancelled)), "{died:?}");
        sending.send(32).await.unwrap();
        assert_eq!(sending.asked(), [vec![], vec![4, 5], vec![4, 5]]);
        assert!(sending.arrived().await);
        assert!(sending.folder.path().join("1.upload").exists());
        forget(&archive.path).unwrap();
        assert!(!sending.folder.path().join("1.upload").exists());
    }
}

#[tokio::test]
async fn a_refusal_of_the_supervisor_and_a_host_the_policy_does_not_know_are_final() {
    let sending = Sending::of(1000, Place::folder().await).await;
    let stop = CancellationToken::new();
    let refused = |_| {
        let reason = "the plan takes 1 GiB".to_owned();
        std::future::ready(Err(Failure::Refused { code: UploadRefusal::TooLarge, reason }))
    };
    let error = sending.uploader.upload(&sending.archive(), refused, |_| (), &stop).await.unwrap_err();
    assert_eq!(error.to_string(), "the Supervisor does not take it: the plan takes 1 GiB");

    let mut sending = Sending::of(1000, Place::s3().await).await;
    sending.uploader.allowed = Box::new(|_| false);
    let error = sending.send(1).await.unwrap_err();
    assert_eq!(error.to_string(), "the policy of this host does not allow uploads to 127.0.0.1");
}

#[tokio::test]
async fn bytes_that_arrived_are_told_and_a_bandwidth_limit_is_kept() {
    let mut sending = Sending::of(3 << 20, Place::folder().await).await;
    sending.uploader.bytes_per_second = Some(2 << 20);
    let stop = CancellationToken::new();
    let mut told = Vec::new();
    let began = std::time::Instant::now();
    let ask = |wanted: Vec<u32>| std::future::ready(Ok(sending.grant(&wanted, 32)));
    sending.uploader.upload(&sending.archive(), ask, |bytes| told.push(bytes), &stop).await.unwrap();
    // 3 MiB at 2 MiB/s, less the last block, which is only taken.
    assert!(began.elapsed() > Duration::from_millis(1300), "{:?}", began.elapsed());
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&(3 << 20))));
    assert!(told.is_sorted(), "{told:?}");
}

#[tokio::test]
async fn no_error_of_an_upload_tells_an_address() {
    let sending = Sending::of(1000, Place::folder().await).await;
    let stop = CancellationToken::new();
    let attempts = AtomicU32::new(0);
    let nowhere = |wanted: Vec<u32>| {
        if attempts.fetch_add(1, Ordering::SeqCst) == 2 {
            stop.cancel();
        }
        let mut grant = sending.grant(&wanted, 1);
        if let Upload::Whole { put } = &mut grant.upload {
            put.url = "http://127.0.0.1:9/canary?signature=canary".to_owned();
        }
        assert!(!format!("{grant:?}").contains("canary"));
        std::future::ready(Ok(grant))
    };
    let ended = sending.uploader.upload(&sending.archive(), nowhere, |_| (), &stop).await;
    assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");
}
