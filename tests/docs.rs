//! The papers: what is generated is as the code has it, and what they point to is there.

use std::fmt::Write;
use std::path::Path;

use warden_checks::CHECKS;
use warden_host::{Area, quantity};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PAPERS: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
/// Lines of the README: what fits on a screen and a half.
const README_LINES: usize = 120;

/// Compares a file with what it is generated from, or writes it anew with `UPDATE_DOCS=1`.
fn holds(path: &str, generated: &str) {
    let file = Path::new(ROOT).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, generated).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == generated, "{path} is old: UPDATE_DOCS=1 cargo test --test tests docs");
}

fn papers() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let in_folder = folder.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let all = PAPERS.map(str::to_owned).into_iter().chain(in_folder.filter(|path| path.ends_with(".md")));
    all.map(|path| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(&path)).unwrap();
        (path, text)
    })
    .collect()
}

#[test]
fn the_reference_of_the_checks_is_as_the_catalogue_has_it() {
    let mut text = format!(
        "# Checks\n\nGenerated from the catalogue: {} checks. `warden checks explain ID` also tells what each one reads. A check \
         whose\nanswer was cut, denied, masked or unsupported is `unknown` and says why.\n",
        CHECKS.len()
    );
    let mut area: Option<Area> = None;
    for check in CHECKS {
        if area != Some(check.area) {
            write!(text, "\n## {}\n", check.area.name()).unwrap();
            area = Some(check.area);
        }
        write!(text, "\n### {}\n\n**{}**\n\n{}\n\n", check.id, check.title, check.why).unwrap();
        for threshold in check.thresholds {
            writeln!(text, "- {threshold}").unwrap();
        }
        let deadline = quantity::duration(check.deadline.as_secs_f64());
        write!(text, "\nWhat to do: {} Deadline: {deadline}.\n", check.advice).unwrap();
    }
    holds("docs/checks.md", &text);
}

#[test]
fn the_reference_of_the_settings_is_as_the_packages_have_it() {
    let settings = include_str!("../packaging/etc/warden/warden.toml");
    let policy = include_str!("../packaging/etc/warden/policy.toml");
    holds(
        "docs/configuration.md",
        &format!(
            "# Configuration\n\nBoth files as the packages install them, every setting with its default. `warden agent \
             --check-config` and `warden supervisor\n--check-config` list all mistakes at once.\n\n\
             ## /etc/warden/warden.toml\n\n```toml\n{settings}```\n\n\
             ## /etc/warden/policy.toml\n\nWhat this host allows, whatever its Supervisor asks; read for each request.\n\n\
             ```toml\n{policy}```\n"
        ),
    );
}

#[test]
fn what_the_papers_point_to_is_there() {
    for (path, text) in papers() {
        let folder = Path::new(ROOT).join(&path).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.starts_with("https://") {
                continue;
            }
            assert!(folder.join(file).exists(), "{path}: {link}");
        }
    }
}

#[test]
fn every_fault_is_held_by_a_test_that_is_there() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() > 10, "{rows:#?}");
    for row in rows {
        let held = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in held.split('`').skip(1).step_by(2) {
            let module = name.replace("::", "/");
            let places = [format!("tests/{module}.rs"), format!("tests/{module}"), format!("src/{module}")];
            assert!(places.iter().any(|place| Path::new(ROOT).join(place).exists()), "{name}: {row}");
        }
    }
}

#[test]
fn the_readme_fits_on_a_screen_and_a_half() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    assert!(readme.lines().count() <= README_LINES, "{} lines", readme.lines().count());
}
