//! The help of commands that have many verbs: in groups, by what somebody wants to do.

use std::fmt::Write;

use clap::Command;

/// Verbs that belong together.
pub struct Group {
    heading: &'static str,
    verbs: &'static [&'static str],
}

/// Columns where no terminal and no `COLUMNS` says how many there are, and at most.
const WIDEST: usize = 100;
/// Columns before the name of a verb, and between it and what it does.
const INDENT: usize = 2;

const PROGRAM: &[Group] = &[
    Group { heading: "Diagnose a host", verbs: &["snapshot", "inspect", "checks"] },
    Group { heading: "Read snapshots", verbs: &["verify", "diff", "fleet"] },
    Group { heading: "Run the agent of a node", verbs: &["agent", "enroll", "status", "doctor", "audit"] },
    Group { heading: "Run the Supervisor", verbs: &["supervisor", "up"] },
    Group { heading: "Command the nodes", verbs: &["ctl"] },
    Group { heading: "Set up the shell", verbs: &["completions", "man", "help"] },
];

const CTL: &[Group] = &[
    Group { heading: "Act on nodes", verbs: &["start", "stop", "restart", "snapshots"] },
    Group { heading: "See what is", verbs: &["nodes", "heartbeats"] },
    Group { heading: "See what was done", verbs: &["activities", "actions", "audit"] },
    Group { heading: "Administer", verbs: &["deployments", "enrolments", "keys"] },
    Group { heading: "Set up this client", verbs: &["profile", "help"] },
];

/// Gives the program and `ctl` a help with their verbs in groups, as wide as the terminal.
pub fn grouped(command: Command) -> Command {
    at(command, columns())
}

fn at(command: Command, columns: usize) -> Command {
    let command = command.mut_subcommand("ctl", |ctl| templated(ctl, CTL, columns));
    templated(command, PROGRAM, columns)
}

fn templated(command: Command, groups: &[Group], columns: usize) -> Command {
    let verbs = verbs(&command, groups, columns);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{verbs}\n{}\n{{options}}{{after-help}}",
        heading("Options")
    );
    command.help_template(template)
}

/// The verbs, each with what it does, below the headings of their groups.
fn verbs(command: &Command, groups: &[Group], columns: usize) -> String {
    let names = groups.iter().flat_map(|group| group.verbs);
    let widest = names.map(|name| name.len()).max().unwrap_or(0);
    let before = INDENT + widest + INDENT;
    let mut text = String::new();
    for group in groups {
        let _ = write!(text, "\n{}\n", heading(group.heading));
        for name in group.verbs {
            let about = match command.find_subcommand(name).and_then(Command::get_about) {
                Some(about) => about.to_string(),
                None => "Print this help, or that of a verb".to_owned(),
            };
            let lines = wrapped(&about, columns.saturating_sub(before)).join(&format!("\n{:before$}", ""));
            // As clap paints a literal.
            let _ = writeln!(
                text,
                "{:INDENT$}\x1b[1m{name}\x1b[0m{:2$}{lines}",
                "",
                "",
                before - INDENT - name.len()
            );
        }
    }
    text
}

/// As clap paints it.
fn heading(text: &str) -> String {
    format!("\x1b[1m\x1b[4m{text}:\x1b[0m")
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// As clap finds it: of the terminal, else of `COLUMNS`.
fn columns() -> usize {
    let of =
        |size: rustix::io::Result<rustix::termios::Winsize>| size.ok().map(|size| usize::from(size.ws_col));
    let terminal = of(rustix::termios::tcgetwinsize(std::io::stdout()))
        .or_else(|| of(rustix::termios::tcgetwinsize(std::io::stderr())))
        .or_else(|| of(rustix::termios::tcgetwinsize(std::io::stdin())));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.filter(|columns| *columns > 0).or_else(told).unwrap_or(WIDEST).min(WIDEST)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::supervisor::store::keys::Permission;

    /// What the first line of every help begins with.
    const VERBS: &[&str] = &[
        "Cancel", "Check", "Choose", "Command", "Compare", "Create", "Delete", "Diagnose", "Download",
        "Explain", "Find", "Inspect", "List", "Make", "Open", "Print", "Read", "Rename", "Restart",
        "Restore", "Revoke", "Run", "Set", "Show", "Start", "Stop", "Write",
    ];

    fn built(columns: usize) -> Command {
        let mut command = at(crate::cli::Command::command(), columns).term_width(columns);
        command.build();
        command
    }

    /// Every command with the words that lead to it, `help` left out.
    fn all(command: &Command, path: &str) -> Vec<(String, Command)> {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        let mut commands: Vec<_> = below.flat_map(|below| all(below, &path)).collect();
        commands.push((path, command.clone()));
        commands
    }

    #[test]
    fn every_verb_is_told_in_one_grammar_and_each_of_its_arguments_too() {
        let mut wrong = Vec::new();
        for (path, command) in all(&built(WIDEST), "") {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let first = about.split([' ', ',']).next().unwrap_or_default();
            if !VERBS.contains(&first) || about.ends_with('.') || about.contains('\n') {
                wrong.push(format!("{path}: {about:?}"));
            }
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                if help.is_empty() || (help.ends_with('.') && !help.ends_with("...")) {
                    wrong.push(format!("{path} {}: {help:?}", argument.get_id()));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_help_fits_its_terminal() {
        for columns in [60, WIDEST] {
            for (path, mut command) in all(&built(columns), "") {
                for help in [command.render_help(), command.render_long_help()] {
                    for line in help.to_string().lines() {
                        assert!(line.chars().count() <= columns, "{path} at {columns}: {line}");
                    }
                }
            }
        }
    }

    /// A text that is broken by hand is broken again where the terminal is narrower.
    #[test]
    fn paragraphs_are_broken_by_the_terminal_alone() {
        for (path, command) in all(&built(WIDEST), "") {
            let texts = [command.get_long_about(), command.get_after_help()].into_iter().flatten();
            for text in texts.map(ToString::to_string) {
                let lines: Vec<&str> = text.lines().collect();
                for pair in lines.windows(2) {
                    let goes_on = !pair[1].is_empty() && !pair[1].starts_with([' ', '-']);
                    let is_prose = pair[0].len() > 60 && !pair[0].starts_with(' ');
                    assert!(!(is_prose && goes_on), "{path}: {}", pair[0]);
                }
            }
        }
    }

    #[test]
    fn each_verb_is_in_one_group() {
        let command = crate::cli::Command::command();
        let ctl = command.find_subcommand("ctl").unwrap().clone();
        for (command, groups) in [(command, PROGRAM), (ctl, CTL)] {
            let grouped: Vec<&str> = groups.iter().flat_map(|group| group.verbs).copied().collect();
            let known: BTreeSet<&str> =
                command.get_subcommands().map(Command::get_name).chain(["help"]).collect();
            assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), known);
            assert_eq!(grouped.len(), known.len(), "none twice");
        }
    }

    #[test]
    fn a_group_stands_below_its_heading_and_as_wide_as_the_terminal() {
        let help = built(60).render_help().to_string();
        let expected = "Read snapshots:\n  verify       Check a bundle against its manifest, and its\n               \
                        signature\n";
        assert!(help.contains(expected), "{help}");
        assert!(help.contains("\nOptions:\n  -h, --help"), "{help}");
    }

    #[test]
    fn the_permissions_stand_in_the_help_of_a_new_key() {
        let (_, mut create) =
            all(&built(60), "").into_iter().find(|(path, _)| path == "warden ctl keys create").unwrap();
        let help = create.render_long_help().to_string();
        for permission in Permission::ALL {
            assert!(help.contains(&format!("- {}", permission.as_str())), "{}: {help}", permission.as_str());
        }
    }
}
