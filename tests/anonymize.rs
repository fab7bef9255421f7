//! `--anonymize` and the policy, on the finished archive.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn warden(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn members(archive: &Path) -> BTreeMap<String, String> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut member = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            (member.name().unwrap().into_owned(), String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}

fn recorded(name: &str) -> String {
    format!("{}/tests/hosts/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The one file in a folder.
fn only(folder: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

#[test]
fn nothing_in_an_anonymous_archive_names_the_host_and_the_verdicts_are_the_same() {
    for host in ["healthy-debian", "sick-debian", "sick-rhel", "real-debian", "container"] {
        let (plain, anonymous) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, more) in [(&plain, None), (&anonymous, Some("--anonymize"))] {
            let mut arguments = vec!["snapshot", "--fail-on=never", "--quiet", "--host"];
            let (host, out) = (recorded(host), folder.path().to_str().unwrap().to_owned());
            arguments.extend([host.as_str(), "-o", out.as_str()]);
            arguments.extend(more);
            let output = warden(&arguments);
            assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let anonymous = only(anonymous.path());
        let (before, after) = (members(&only(plain.path())), members(&anonymous));
        let report = |files: &BTreeMap<String, String>| -> serde_json::Value {
            serde_json::from_str(&files["report.json"]).unwrap()
        };
        let (was, is) = (report(&before), report(&after));
        let outcomes = |report: &serde_json::Value| -> Vec<String> {
            report["checks"].as_array().unwrap().iter().map(|check| check["outcome"].to_string()).collect()
        };
        assert_eq!(outcomes(&was), outcomes(&is), "{host}");
        assert_eq!(
            is["host"]["name"].as_str().unwrap().len(),
            "[host:01234567]".len(),
            "{host}: {}",
            is["host"]
        );

        let mut originals: Vec<String> = Vec::new();
        for fact in ["name", "machine_id", "boot_id"] {
            originals.extend(was["host"][fact].as_str().filter(|value| value.len() > 3).map(str::to_owned));
        }
        // What stood in the plain one and is an address of somebody, found without the help of the product.
        for content in before.values() {
            let words = content.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':')));
            originals.extend(words.filter(|word| is_private(word) || is_hardware(word)).map(str::to_owned));
        }
        originals.sort();
        originals.dedup();
        assert!(!originals.is_empty(), "{host}");
        for (name, content) in after.iter().chain([(&anonymous.to_str().unwrap().to_owned(), &String::new())])
        {
            for original in &originals {
                let ends =
                    |at: usize| content[at + original.len()..].starts_with(|c: char| c.is_ascii_digit());
                let left = content.match_indices(original.as_str()).any(|(at, _)| !ends(at));
                assert!(!left && !name.contains(original.as_str()), "{host}: {original} is left in {name}");
            }
        }
    }
}

fn is_private(word: &str) -> bool {
    word.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_private())
}

fn is_hardware(word: &str) -> bool {
    word.len() == 17
        && word != "00:00:00:00:00:00"
        && word != "ff:ff:ff:ff:ff:ff"
        && word.split(':').count() == 6
        && word.split(':').all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

#[test]
fn a_policy_masks_more_and_one_that_is_not_understood_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (policy, archive, host) = (path("policy.toml"), path("out.zip"), recorded("healthy-debian"));
    let run =
        || warden(&["snapshot", "--fail-on=never", "--host", &host, "-o", &archive, "--policy", &policy]);

    let missing = run();
    assert_eq!(missing.status.code(), Some(2));
    std::fs::write(&policy, "[redaction]\nalso_mask = [\"/(/\"]\n").unwrap();
    let refused = run();
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.contains("nothing is collected while the policy") && told.contains("not a regular expression"),
        "{told}"
    );
    assert!(!Path::new(&archive).exists());

    std::fs::write(&policy, "[redaction]\nalso_mask = [\"/(?i)debian/\"]\n").unwrap();
    assert!(run().status.success());
    let files = members(Path::new(&archive));
    assert!(files["host/etc/os-release"].contains("[secret:policy:"));
    assert!(!files.iter().any(|(name, content)| name.starts_with("host/") && content.contains("debian")));
}
