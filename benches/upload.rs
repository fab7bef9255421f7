//! What it costs that an archive goes to the Supervisor's folder over HTTP: the whole way, from the file of the agent
//! to the file that is finished, against writing the same bytes to the same disk, and against writing them and knowing
//! their SHA-256, as the Supervisor does before it takes them; in turn.
//!
//! cargo bench --bench upload -- [--mib 1024] [--folder DIR]

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use warden::agent::upload::{AT_ONCE, Archive, STALLED, Uploader, forget};
use warden::protocol::UploadGrant;
use warden::supervisor::object_store::{
    Announced, GRANT_LIFE, Key, Local, Objects, WHOLE_UPLOAD_BYTES, local,
};

/// Odd, so that one is in the middle; a multiple of three, so that each comes as often at each place.
const ROUNDS: usize = 9;
/// The disk is done with one before the other has its turn.
const SETTLE: Duration = Duration::from_secs(1);
/// Written at once by the copy, as the Supervisor does.
const BLOCK: usize = 1 << 20;
const KEY: Key = Key { deployment: 1, snapshot: 2 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let told = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let mib: usize = told("--mib").map_or(1024, |text| text.parse().expect("a number of MiB"));
    let parent = told("--folder").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    let archive = Archive { path: folder.path().join("1.zip"), size: (mib << 20) as u64 };
    let announced = Announced { size: archive.size, sha256: fill(&archive.path, mib) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut copies, mut hashed, mut uploads) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let way = Way::new(&folder.path().join("objects")).await;
        // The first of each meets a cold disk and a cold program. Each comes first, second and third: none always pays for
        // what another left to the disk.
        for round in 0..=ROUNDS {
            for turn in 0..3 {
                let (took, times) = match (round + turn) % 3 {
                    0 => (copy(&archive.path, &folder.path().join("copy"), None), &mut copies),
                    1 => (
                        copy(&archive.path, &folder.path().join("copy"), Some(announced.sha256)),
                        &mut hashed,
                    ),
                    _ => (way.send(&archive, &announced).await, &mut uploads),
                };
                if round > 0 {
                    times.push(took);
                }
                std::thread::sleep(SETTLE);
            }
        }
    });
    println!("{mib} MiB, {ROUNDS} rounds in turn, medians; ratios are of the whole upload to the line");
    for (what, took) in
        [("written to disk", &copies), ("written and hashed", &hashed), ("the whole upload", &uploads)]
    {
        let ratios: Vec<f64> = uploads.iter().zip(took).map(|(sent, took)| sent / took).collect();
        let (seconds, ratio) = (median(took.clone()), median(ratios));
        println!("{what:<20}{seconds:6.2} s  {:5.0} MiB/s  ratio {ratio:.3}", mib as f64 / seconds);
    }
    println!("peak memory of both sides together {} MiB", peak_mib());
}

/// Both ends, in this process.
struct Way {
    objects: Objects,
    uploader: Uploader,
}

impl Way {
    async fn new(folder: &Path) -> Way {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kept = Local::open(folder).expect("a folder for objects");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let routes =
            local::routes(kept.clone(), std::sync::Arc::new(|_| Box::pin(std::future::ready(Some(true)))));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let uploader = Uploader {
            own: http.clone(),
            other: http,
            supervisor: format!("http://{address}").parse().expect("an address"),
            allowed: Box::new(|_| true),
            bytes_per_second: None,
            patience: STALLED,
            at_once: AT_ONCE,
            random: || 0.0,
        };
        Way { objects: Objects::Local(kept), uploader }
    }

    /// Seconds from the first question to the archive at its place.
    async fn send(&self, archive: &Archive, announced: &Announced) -> f64 {
        let began = Instant::now();
        let now = jiff::Timestamp::now;
        let begun = self.objects.begin(KEY, announced, WHOLE_UPLOAD_BYTES).await.expect("an upload begins");
        let ask = |wanted: Vec<u32>| {
            let upload = self.objects.grant(KEY, announced, &begun, &wanted, now());
            let expires_ms = GRANT_LIFE.as_millis() as u64;
            std::future::ready(Ok(UploadGrant { request: 1, upload, expires_ms }))
        };
        let stop = CancellationToken::new();
        let tags = self.uploader.upload(archive, ask, |_| (), &stop).await.expect("it arrives");
        self.objects.finish(KEY, announced, &begun, &tags).await.expect("it is what was announced");
        let took = began.elapsed();
        forget(&archive.path).expect("the notes are removed");
        self.objects.delete(KEY).await.expect("the object is removed");
        took.as_secs_f64()
    }
}

/// Bytes that cannot be packed; returns their SHA-256.
fn fill(path: &Path, mib: usize) -> [u8; 32] {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    let (mut file, mut hash) = (File::create(path).expect("the archive"), Sha256::new());
    for _ in 0..mib {
        let block: Vec<u8> = (0..BLOCK / 8).flat_map(|_| random()).collect();
        hash.update(&block);
        file.write_all(&block).expect("room for the archive");
    }
    file.sync_all().expect("the archive is on disk");
    hash.finalize().into()
}

/// Seconds to write the same bytes to the same disk, and know them there; and that they are those with this SHA-256.
fn copy(from: &Path, to: &Path, expected: Option<[u8; 32]>) -> f64 {
    let began = Instant::now();
    let mut hash = expected.map(|_| warden::sha256::Sha256::default());
    let (mut source, mut copy) = (File::open(from).expect("the archive"), File::create(to).expect("a copy"));
    let mut block = vec![0; BLOCK];
    loop {
        match source.read(&mut block).expect("the archive") {
            0 => break,
            read => {
                copy.write_all(&block[..read]).expect("room for a copy");
                if let Some(hash) = &mut hash {
                    hash.update(&block[..read]);
                }
            }
        }
    }
    copy.sync_all().expect("the copy is on disk");
    assert_eq!(hash.map(warden::sha256::Sha256::finish), expected, "the copy is the archive");
    let took = began.elapsed();
    std::fs::remove_file(to).expect("the copy is removed");
    took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the kernel says of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}
