//! A data directory that is deleted or replaced under a running server is told before all else, and the commands that
//! the report gives bring every byte of it back. The server is a shell script of that name which holds files open.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const FILES: [&str; 4] = [
    "metadata/journal.wal",
    "streams/0/topics/0/partitions/0/00000000000000000000.log",
    "streams/0/topics/0/partitions/0/00000000000000000000.index",
    "logs/iggy-server.log",
];

/// A process called `iggy-server`, ended when dropped.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts it in a folder of its own with the files of `data` open, as a script: `read` waits without a child.
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        for (number, file) in FILES.iter().enumerate() {
            std::fs::create_dir_all(data.join(file).parent().unwrap()).unwrap();
            std::fs::write(data.join(file), format!("content {number} of {file}\n").repeat(1_000)).unwrap();
        }
        let program = folder.path().join("iggy-server");
        let opened: String = FILES
            .iter()
            .enumerate()
            .map(|(number, file)| format!("exec {}>>data/{file}\n", number + 3))
            .collect();
        std::fs::write(&program, format!("#!/bin/sh\n{opened}echo ready\nread line\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&program)
            .current_dir(folder.path())
            .env_clear()
            .env("IGGY_SYSTEM_PATH", &data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server { child, folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The problems of the whole report, by check; those of this server's process first.
    fn problems(&self) -> Vec<(String, Value)> {
        let out = self.folder.path().join("report.json");
        let output = Command::new(env!("CARGO_BIN_EXE_warden"))
            .args([
                "snapshot",
                "--fail-on=never",
                "--only=runtime-iggy-process,runtime-versions,process-limits",
                "-o",
            ])
            .arg(&out)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let problems = checks.iter().flat_map(|check| {
            let id = check["id"].as_str().unwrap().to_owned();
            check["problems"].as_array().unwrap().iter().map(move |problem| (id.clone(), problem.clone()))
        });
        problems.collect()
    }

    fn first(&self) -> Value {
        let pid = format!("process {}", self.child.id());
        let data = self.data().display().to_string();
        let mine = |text: &str| text.contains(&pid) && text.contains(&data);
        let problems = self.problems();
        let found = problems.iter().find(|(_, problem)| mine(problem["text"].as_str().unwrap()));
        found.unwrap_or_else(|| panic!("{problems:#?}")).1.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the copying that `problem` advises, into `to`.
fn rescue(problem: &Value, to: &Path) {
    let command = problem["advice"]["command"].as_str().unwrap();
    let (before, rest) = command.split_once("; to=").unwrap();
    let (_, rest) = rest.split_once(';').unwrap();
    let command = format!("{before}; to={};{rest}", to.display());
    let output = Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("NOT COPIED"), "{output:?}");
}

fn is_whole(directory: &Path) {
    for (number, file) in FILES.iter().enumerate() {
        let expected = format!("content {number} of {file}\n").repeat(1_000);
        assert_eq!(std::fs::read_to_string(directory.join(file)).unwrap(), expected, "{file}");
    }
}

#[test]
fn a_data_directory_deleted_under_its_server_fails_first_and_comes_back_whole_by_the_advice() {
    let server = Server::start();
    std::fs::remove_dir_all(server.data()).unwrap();
    let problem = server.first();
    assert_eq!(problem["severity"], "fail");
    let text = problem["text"].as_str().unwrap();
    let data = server.data().display().to_string();
    assert!(
        text.starts_with(&format!("the data directory {data} was deleted under the running server: ")),
        "{text}"
    );
    assert!(text.contains("3 files of it exist only while process"), "{text}");
    let to = server.folder.path().join("rescue");
    rescue(&problem, &to);
    is_whole(&to);
}

#[test]
fn while_the_process_has_the_only_copy_nothing_advises_to_end_it() {
    let server = Server::start();
    std::fs::remove_dir_all(server.data()).unwrap();
    let problems = server.problems();
    assert_eq!(problems[0].0, "runtime-iggy-process", "it comes first");
    for (check, problem) in problems {
        let command = problem["advice"]["command"].as_str().unwrap_or_default();
        for word in ["restart", "systemctl stop", "kill", "reboot"] {
            assert!(!command.contains(word), "{check}: {command}");
        }
        let advice = problem["advice"]["text"].as_str().unwrap();
        if advice.to_lowercase().contains("restart") {
            let held_back =
                advice.starts_with("Not before the data is safe: ") || advice.starts_with("Do not stop");
            assert!(held_back, "{check}: {advice}");
        }
    }
}

#[test]
fn a_directory_put_in_its_place_does_not_hide_the_loss() {
    let server = Server::start();
    std::fs::remove_dir_all(server.data()).unwrap();
    for directory in ["streams", "metadata", "logs"] {
        std::fs::create_dir_all(server.data().join(directory)).unwrap();
    }
    std::fs::write(server.data().join(FILES[0]), "another").unwrap();
    let problem = server.first();
    assert_eq!(problem["severity"], "fail");
    let to = server.folder.path().join("rescue");
    rescue(&problem, &to);
    is_whole(&to);
}

#[test]
fn a_renamed_directory_gets_its_name_back() {
    let server = Server::start();
    let written = format!("[system]\npath = \"{}\"\n", server.data().display());
    std::fs::create_dir_all(server.data().join("runtime")).unwrap();
    std::fs::write(server.data().join("runtime/current_config.toml"), written).unwrap();
    let renamed = server.folder.path().join("data.old");
    std::fs::rename(server.data(), &renamed).unwrap();
    let pid = server.child.id().to_string();
    let problems = server.problems();
    let text = format!(
        "the data directory {} was renamed to {} under the running server: after a restart it begins with an empty {}",
        server.data().display(),
        renamed.display(),
        server.data().display()
    );
    let found = problems.iter().find(|(_, problem)| problem["text"] == text.as_str());
    let (_, problem) = found.unwrap_or_else(|| panic!("{pid}: {problems:#?}"));
    let command = problem["advice"]["command"].as_str().unwrap();
    assert!(Command::new("/bin/sh").args(["-c", command]).status().unwrap().success());
    is_whole(&server.data());
    let problems = server.problems();
    assert!(problems.iter().all(|(_, problem)| problem["text"] != text.as_str()), "{problems:#?}");
}

#[test]
fn a_server_whose_files_have_their_names_has_lost_nothing() {
    let server = Server::start();
    let data = server.data().display().to_string();
    let lost = ["was deleted", "something else lies where", "was renamed"];
    for (_, problem) in server.problems() {
        let text = problem["text"].as_str().unwrap();
        assert!(!text.contains(&data) || lost.iter().all(|words| !text.contains(words)), "{text}");
    }
}
