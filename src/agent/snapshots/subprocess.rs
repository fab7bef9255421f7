//! `warden snapshot` as a process of its own: what the kernel holds, or what a check breaks, is not the agent's.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use warden_protocol::SnapshotProgress;

use super::Wish;
use crate::{Settings, credentials_directory, direct};

/// Longest answer of the child.
const ANSWER_LIMIT: u64 = 4 << 20;
/// Longest line of what it says while it works, and how many of the newest are told when it fails.
const LINE_LIMIT: usize = 2_000;
const LINES_TOLD: usize = 10;
/// For the rest of what it said, once it has ended. A thread of it that the kernel does not give back, on a dead mount,
/// holds its outputs open for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines between two looks at the clock never come quicker than this is worth telling.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How the process is started.
#[derive(Debug, Clone)]
pub struct Child {
    pub program: PathBuf,
    /// What this host masks besides; there need not be one.
    pub policy: PathBuf,
    /// Where this agent keeps its state, and its flight recorder.
    pub state: PathBuf,
    /// By which the way to the Supervisor is looked at; absent: it is not.
    pub agent: Option<Settings>,
    /// Bytes of the data directory that it packs at most.
    pub iggy_budget: u64,
    /// After this it is killed.
    pub limit: Duration,
}

#[derive(Deserialize)]
struct Summary {
    verdict: String,
}

/// A line of `--progress json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    checks_done: u32,
    checks_total: u32,
    bytes_packed: u64,
}

impl Child {
    /// Writes the bundle to `place`, tells progress at most once a second, and returns the worst finding.
    ///
    /// # Errors
    /// It could not be started, took too long, or failed: with the newest lines it said.
    pub async fn run(
        &self,
        place: &Path,
        wish: &Wish,
        told: impl FnMut(SnapshotProgress),
    ) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command
            .arg0("warden")
            .args(["snapshot", "--json", "--progress", "json", "--fail-on", "never", "--output"])
            .arg(place)
            .arg("--agent-state")
            .arg(&self.state);
        let known = self.agent.as_ref();
        if let Some((settings, direct)) =
            known.and_then(|settings| Some((settings, direct(settings, credentials_directory().as_deref())?)))
        {
            command.arg("--agent-supervisor").arg(direct.url);
            if let Some(file) = &settings.ca_file {
                command.arg("--agent-ca-file").arg(file);
            }
        }
        if wish.include_iggy {
            command.args(["--include-iggy", "--iggy-budget", &self.iggy_budget.to_string()]);
        }
        let choice = &wish.choice;
        if !choice.only.is_empty() {
            command.arg(format!("--only={}", choice.only.join(",")));
        }
        if let Some(seconds) = choice.since_seconds {
            command.arg(format!("--since={seconds}s"));
        }
        if choice.anonymize {
            command.arg("--anonymize");
        }
        if let Some(why) = &wish.iggy_left_out {
            command.arg(format!("--iggy-left-out={why}"));
        }
        // One that cannot be looked at is named as well: then nothing is collected, and that is told.
        if self.policy.try_exists().unwrap_or(true) {
            command.arg("--policy").arg(&self.policy);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the process that takes it")?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        let work = async {
            let mut hearing =
                pin!(async { tokio::join!(read(stdout, &mut answer), follow(stderr, told, &mut said)) });
            tokio::select! {
                _ = &mut hearing => child.wait().await,
                status = child.wait() => {
                    let _ = timeout(LAST_WORDS, hearing).await;
                    status
                }
            }
        };
        let status = timeout(self.limit, work)
            .await
            .with_context(|| format!("it took longer than {} s and was ended", self.limit.as_secs()))??;
        if !status.success() {
            bail!("{status}: {}", said.join("; "));
        }
        let summary: Summary = serde_json::from_slice(&answer).context("it does not tell its verdict")?;
        Ok(summary.verdict)
    }
}

/// What could not be read is missing in it, and then it is no answer.
async fn read(stdout: Option<impl AsyncRead + Unpin>, answer: &mut Vec<u8>) {
    if let Some(stdout) = stdout {
        let _ = stdout.take(ANSWER_LIMIT).read_to_end(answer).await;
    }
}

/// Tells the progress among the lines, and keeps the newest of the others.
async fn follow(
    stderr: Option<impl AsyncRead + Unpin>,
    mut told: impl FnMut(SnapshotProgress),
    newest: &mut Vec<String>,
) {
    let Some(stderr) = stderr else { return };
    let mut lines = BufReader::new(stderr).lines();
    let mut last: Option<tokio::time::Instant> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Line>(&line) {
            Ok(Line { checks_done, checks_total, bytes_packed }) => {
                let is_last = checks_done == checks_total && bytes_packed == 0;
                if is_last || last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
                    last = Some(tokio::time::Instant::now());
                    told(SnapshotProgress {
                        checks_done,
                        checks_total,
                        bytes_packed,
                        ..SnapshotProgress::default()
                    });
                }
            }
            Err(_) => {
                newest.push(line.chars().take(LINE_LIMIT).collect());
                if newest.len() > LINES_TOLD {
                    newest.remove(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    /// As a thread in a dead mount holds the outputs of a process that has ended.
    const LEAVES_ONE_BEHIND: &str =
        "#!/bin/sh\nsleep 600 &\necho $! > \"$0.left\"\necho '{\"verdict\":\"warn\"}'\n";

    #[tokio::test]
    async fn an_answer_is_taken_when_its_process_has_ended_whoever_still_holds_its_outputs() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (text, program) = (folder.path().join("text"), folder.path().join("warden"));
        std::fs::write(&text, LEAVES_ONE_BEHIND).unwrap();
        std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Copied by another process: a program that somebody has open to write cannot be started.
        let copied = std::process::Command::new("cp").args([&text, &program]).status().unwrap();
        assert!(copied.success());
        let (policy, limit) = (folder.path().join("none"), Duration::from_secs(500));
        let state = folder.path().join("state");
        let child = Child { program, policy, state, agent: None, iggy_budget: 1, limit };
        let verdict = child
            .run(&folder.path().join("place"), &Wish { redact_secrets: true, ..Wish::default() }, |_| ())
            .await;
        let left = std::fs::read_to_string(folder.path().join("warden.left")).unwrap();
        let left = Pid::from_raw(left.trim().parse().unwrap());
        assert_eq!(verdict.unwrap(), "warn");
        kill(left, Signal::SIGKILL).expect("it was still there");
    }
}
