//! `warden doctor`: what keeps this host from being a node that does what it is asked, and what to do about it.

use std::io::Write;

use jiff::Timestamp;

use super::agent_args::Which;
use super::terminal::{Painter, Style, harmless};
use crate::agent::doctor::{Finding, Verdict, examine};
use crate::supervisor;

/// Find what keeps this host from being a node that does what it is asked
///
/// The files of the configuration, the policy, the enrolment, each step of the way to the Supervisor, its clock, the
/// agent, systemd and the units, polkit, what the agent may see, its ledger and the room it has. Where this host is the
/// Supervisor's: its unit, configuration, certificate, database, object store and room, and whether it is ready. What is
/// wrong is told with what to do. Changes nothing, and leaves a connected agent connected. Run it as root: others may not see most.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing fails; 1 when something does; 2 when it could not run. What warns or could not be \
                  seen is told, and does not count."
)]
pub struct Arguments {
    /// Print as JSON: a list of `about`, `verdict` (pass, warn, fail, unknown), `told` and `advice`
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: Which,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dir = arguments.agent.dir()?;
    let now_ms = Timestamp::now().as_millisecond();
    let findings = runtime.block_on(async {
        let mut findings = examine(arguments.agent.config(), dir.as_deref(), now_ms).await;
        let now = now_ms.div_euclid(1000);
        findings.extend(supervisor::doctor::examine(arguments.agent.config(), dir.as_deref(), now).await);
        findings
    });
    // A resolver that hangs keeps its thread, and must not keep the prompt.
    runtime.shutdown_background();
    if arguments.json {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &findings)?;
        writeln!(out)?;
        return Ok(code(&findings));
    }
    tell(&findings)
}

/// Prints a line for each, and returns the exit code.
pub fn tell(findings: &[Finding]) -> anyhow::Result<u8> {
    std::io::stdout().lock().write_all(text(findings, Painter::stdout()).as_bytes())?;
    Ok(code(findings))
}

fn code(findings: &[Finding]) -> u8 {
    u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Fail))
}

fn text(findings: &[Finding], paint: Painter) -> String {
    let width = findings.iter().map(|finding| finding.about.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { about, verdict, told, advice } in findings {
        let (style, word) = match verdict {
            Verdict::Pass => (Style::Green, "pass   "),
            Verdict::Warn => (Style::Yellow, "warn   "),
            Verdict::Fail => (Style::Red, "FAIL   "),
            Verdict::Unknown => (Style::Magenta, "unknown"),
        };
        let indent = " ".repeat(word.len() + width + 4);
        let told: Vec<String> = told.lines().map(harmless).collect();
        text +=
            &format!("{}  {about:width$}  {}\n", paint.paint(style, word), told.join(&format!("\n{indent}")));
        if let Some(advice) = advice {
            text += &format!("{indent}{} {}\n", paint.paint(Style::Bold, "->"), harmless(advice));
        }
    }
    let failing = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    let unseen = findings.iter().filter(|finding| finding.verdict == Verdict::Unknown).count();
    text += &match (failing, unseen) {
        (0, 0) => paint.paint(Style::Green, "nothing fails"),
        (0, _) => format!("nothing of what could be seen fails; {unseen} could not be seen"),
        (1, _) => paint.paint(Style::Red, "1 thing fails"),
        (_, _) => paint.paint(Style::Red, &format!("{failing} things fail; begin with the first")),
    };
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        let finding = |about, verdict, told: &str, advice: Option<&str>| Finding {
            about,
            verdict,
            told: told.to_owned(),
            advice: advice.map(str::to_owned),
        };
        let findings = [
            finding("configuration", Verdict::Pass, "understood", None),
            finding("policy", Verdict::Fail, "line 1\nline\u{7} 2", Some("mend it")),
            finding("enrolment", Verdict::Unknown, "not for you", Some("run this as root")),
        ];
        assert_eq!(
            text(&findings, Painter::plain()),
            concat!(
                "pass     configuration  understood\n",
                "FAIL     policy         line 1\n",
                "                        line\\u{7} 2\n",
                "                        -> mend it\n",
                "unknown  enrolment      not for you\n",
                "                        -> run this as root\n",
                "1 thing fails\n",
            )
        );
        assert_eq!(text(&findings[..1], Painter::plain()).lines().last(), Some("nothing fails"));
    }
}
