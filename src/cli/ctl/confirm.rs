//! Questions before something that cannot be taken back, on a terminal.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::context::Session;
use crate::cli::terminal::harmless;

/// Nodes named in a question; of more only the number is said.
const NODES_NAMED: usize = 20;

/// Whether to ask
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Confirmation {
    /// Do it without asking; without a terminal nothing is asked
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Confirmation {
    /// Returns whether a question would be asked: on a terminal, without `--yes`.
    pub fn asks(self) -> bool {
        !self.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks `question` on the terminal and returns when the answer is yes; at once where nothing is asked.
    ///
    /// # Errors
    /// The answer is anything else.
    pub fn ask(self, session: &Session, question: &str) -> anyhow::Result<()> {
        if !self.asks() {
            return Ok(());
        }
        session.screen.without_bars(|| {
            let mut err = std::io::stderr();
            write!(err, "{} [y/N] ", harmless(question)).and_then(|()| err.flush())
        })?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        if is_yes(&answer) {
            return Ok(());
        }
        bail!("not confirmed; nothing was done")
    }
}

/// Returns the nodes of a question: `3 nodes (a, b, c)`.
pub fn nodes(labels: &[String]) -> String {
    let shown = labels.iter().take(NODES_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match labels.len() {
        1 => format!("node {shown}"),
        many if many > NODES_NAMED => format!("{many} nodes ({shown}, and {} more)", many - NODES_NAMED),
        many => format!("{many} nodes ({shown})"),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in
            [("y\n", true), ("YES\r\n", true), ("\n", false), ("", false), ("yep", false)]
        {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_question_names_the_nodes_up_to_a_number() {
        let labels = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
        assert_eq!(nodes(&labels(1)), "node n0");
        assert_eq!(nodes(&labels(3)), "3 nodes (n0, n1, n2)");
        assert!(nodes(&labels(22)).ends_with("n19, and 2 more)"));
    }
}
