//! The unit files: hardened, and each line with its reason.

use std::path::Path;
use std::process::Command;

const UNITS: [&str; 2] = ["warden.service", "warden-supervisor.service"];

fn path(unit: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit).to_str().unwrap().to_owned()
}

#[test]
fn systemd_finds_little_exposure() {
    for unit in UNITS {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=25", &path(unit)])
            .env("SYSTEMD_COLORS", "0")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", told.lines().last().unwrap());
        assert!(told.contains("Overall exposure level for "), "{told}");
    }
}

#[test]
fn systemd_knows_every_line() {
    for unit in UNITS {
        let folder = tempfile::tempdir().unwrap();
        // The program is not there, and what the unit is about is its lines.
        let text = std::fs::read_to_string(path(unit)).unwrap().replace("/usr/bin/warden", "/bin/true");
        let copy = folder.path().join(unit);
        std::fs::write(&copy, text.replace("Documentation=", "#")).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{unit}");
    }
}

#[test]
fn every_line_that_gives_or_takes_a_right_has_its_reason_before_it() {
    for unit in UNITS {
        let text = std::fs::read_to_string(path(unit)).unwrap();
        let (_, service) = text.split_once("UMask=0077\n").unwrap();
        let (rights, _) = service.split_once("[Install]").unwrap();
        let lines: Vec<&str> = rights.lines().filter(|line| !line.is_empty()).collect();
        assert!(lines.len() > 40);
        for pair in lines.windows(2) {
            // One reason may stand before a pair that says the same for two sets.
            let same = pair.iter().all(|line| line.ends_with("CAP_DAC_READ_SEARCH CAP_SYS_PTRACE"));
            assert!(pair[1].starts_with("# ") || pair[0].starts_with("# ") || same, "{unit}: {}", pair[1]);
        }
    }
}
