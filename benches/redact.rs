//! How fast a log of 2 GB is masked, and in how much memory: `cargo bench --bench redact [MB]`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench tells its figures, or fails")]

use std::io::{self, Read, Write};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use warden::redact::{Redactor, Shape};

/// Megabytes of log when nothing else is asked for.
const MEGABYTES: u64 = 2000;
/// One line in so many holds a secret: far more than any log has.
const SECRET_EVERY: u64 = 200;

/// A log as an Iggy server writes it, made while it is read.
struct Log {
    left: u64,
    number: u64,
    colours: bool,
    line: Vec<u8>,
    at: usize,
}

impl Log {
    fn new(bytes: u64, colours: bool) -> Log {
        Log { left: bytes, number: 0, colours, line: Vec::new(), at: 0 }
    }

    fn next_line(&mut self) {
        self.number += 1;
        let n = self.number;
        let target_and_text = match n % 9 {
            _ if n.is_multiple_of(SECRET_EVERY) => {
                ("server::bootstrap", format!("Generated root user password: pw{n}xYz"))
            }
            0 => (
                "server::http",
                format!(
                    "request method=GET path=/streams/{}/topics status=200 elapsed={}us",
                    n % 50,
                    n % 911
                ),
            ),
            1 => (
                "server::binary::handlers",
                format!("Received a TCP command: SendMessages, stream: {}, topic: 1, messages: 1000", n % 7),
            ),
            2 => (
                "iggy.partitions.storage",
                format!("flushed partition={} batches=12 bytes={} offset={n}", n % 16, n * 37 % 1_048_576),
            ),
            3 => (
                "server::shard::tasks::periodic",
                "Personal access token cleaner: no expired tokens found".to_owned(),
            ),
            4 => (
                "server::tcp::connection",
                format!("client 127.0.0.1:{} closed the connection, session id: {}", n % 60_000, n * 7_919),
            ),
            5 => ("server::http::jwt", "No revoked access tokens found to load.".to_owned()),
            6 => (
                "shard",
                format!("consumer group stdout_sink rebalanced generation={n} members=3 key=orders"),
            ),
            7 => (
                "server_common::bootstrap",
                format!("segment streams/0/topics/1/partitions/{}/{n:020}.log sealed", n % 16),
            ),
            _ => ("server::quic", format!("accepted 0193497a-1c7c-7e7f-b1f3-{n:012x} with ALPN iggy")),
        };
        let (target, text) = target_and_text;
        self.line.clear();
        let second = n / 1000 % 60;
        let written = if self.colours {
            writeln!(
                self.line,
                "\x1b[2m2026-11-21T11:09:{second:02}.{:06}Z\x1b[0m \x1b[32m INFO\x1b[0m shard-{} \x1b[2m{target}\x1b[0m\x1b[2m:\x1b[0m {text}",
                n % 1_000_000,
                n % 8
            )
        } else {
            writeln!(
                self.line,
                "2026-11-21T11:09:{second:02}.{:06}Z  INFO shard-{} {target}: {text}",
                n % 1_000_000,
                n % 8
            )
        };
        written.unwrap();
        self.at = 0;
    }
}

impl Read for Log {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.left > 0 {
            if self.at == self.line.len() {
                self.next_line();
            }
            let length = (buffer.len() - filled).min(self.line.len() - self.at).min(self.left as usize);
            buffer[filled..filled + length].copy_from_slice(&self.line[self.at..self.at + length]);
            self.at += length;
            self.left -= length as u64;
            filled += length;
        }
        Ok(filled)
    }
}

fn peak_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time the process had a core: other work on the machine does not count.
fn busy() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds() as u64)
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let bytes = asked.unwrap_or(MEGABYTES) * 1_000_000;
    for (name, colours) in [("plain", false), ("coloured", true)] {
        // Making the log takes time of its own, which is measured and taken off.
        let began = busy();
        let mut buffer = vec![0; 256 << 10];
        let mut log = Log::new(bytes, colours);
        while log.read(&mut buffer).unwrap() > 0 {}
        let making = busy() - began;
        let redactor = Redactor::new([1; 32]);
        let began = busy();
        let copied = redactor.copy(Shape::Log, Log::new(bytes, colours), io::sink()).unwrap();
        let seconds = (busy() - began - making).as_secs_f64();
        assert_eq!(copied.read, bytes);
        let receipt = redactor.receipt();
        println!(
            "{name}: {:.0} MB/s of CPU time over {} MB, {} places masked, peak {} MiB (the whole process)",
            bytes as f64 / 1e6 / seconds,
            bytes / 1_000_000,
            receipt.counts.values().sum::<u64>(),
            peak_kibibytes() / 1024
        );
    }
}
