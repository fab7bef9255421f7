//! Fetches an archive: broken off it goes on where it was, and what came is held against its SHA-256.

use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use reqwest::{StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use warden_client::Client;

use super::context::Session;
use crate::sha256::{self, Sha256};

/// Connections that may break without a byte coming in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// A connection on which nothing comes for so long is broken.
const STALLED: Duration = Duration::from_secs(60);
const BLOCK: usize = 256 << 10;

pub struct Wanted<'a> {
    pub size: u64,
    /// 64 hex digits.
    pub sha256: &'a str,
    pub to: &'a Path,
}

/// Writes the archive to its place, whole and as it was told, or not at all. `address` is asked for one anew for each
/// connection: they run out.
pub async fn fetch<A: Future<Output = anyhow::Result<String>>>(
    session: &Session,
    wanted: &Wanted<'_>,
    address: impl Fn() -> A,
) -> anyhow::Result<()> {
    let shown = wanted.to.display();
    let name = wanted.to.file_name().with_context(|| format!("{shown} names no file"))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = wanted.to.with_file_name(partial);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let mut file = tokio::fs::File::from_std(file);
    let bar = Bar(session.screen.bar(&name.to_string_lossy(), wanted.size));
    let (mut have, mut failures) = (0, 0);
    while have < wanted.size {
        let before = have;
        let broken =
            piece(&session.client, &address().await?, wanted.size, &mut have, &mut file, &bar.0).await;
        if let Err(error) = broken {
            failures = if have > before { 1 } else { failures + 1 };
            ensure!(failures < ATTEMPTS, error.context("the download broke off again and again"));
            tokio::time::sleep(PAUSE).await;
        }
    }
    drop(bar);
    file.flush().await?;
    let told = digest(&mut file).await?;
    if told != wanted.sha256 {
        let _ = std::fs::remove_file(&partial);
        bail!("what came is not what was stored: SHA-256 {told}, told {}", wanted.sha256);
    }
    file.sync_all().await?;
    std::fs::rename(&partial, wanted.to).with_context(|| format!("cannot write {shown}"))
}

/// Gone with the download, however that ends.
struct Bar(indicatif::ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What one connection brings.
async fn piece(
    client: &Client,
    address: &str,
    size: u64,
    have: &mut u64,
    file: &mut tokio::fs::File,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    let request = client.elsewhere(address)?.header(header::RANGE, format!("bytes={have}-"));
    // An address is a secret: no error tells it.
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        // The store knows no ranges.
        StatusCode::OK => *have = 0,
        status => bail!("the object store answered {status}"),
    }
    file.seek(SeekFrom::Start(*have)).await?;
    let mut body = answer.bytes_stream();
    while let Some(bytes) =
        tokio::time::timeout(STALLED, body.next()).await.context("nothing came any more")?
    {
        let bytes = bytes.map_err(reqwest::Error::without_url)?;
        ensure!(*have + bytes.len() as u64 <= size, "the object store sent more than was told");
        file.write_all(&bytes).await?;
        *have += bytes.len() as u64;
        bar.set_position(*have);
    }
    ensure!(*have == size, "the connection ended early");
    Ok(())
}

async fn digest(file: &mut tokio::fs::File) -> anyhow::Result<String> {
    file.rewind().await?;
    let (mut hash, mut block) = (Sha256::default(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block).await? {
            0 => break,
            read => hash.update(&block[..read]),
        }
    }
    Ok(sha256::hex(&hash.finish()))
}
