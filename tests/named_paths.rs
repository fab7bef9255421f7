//! Hostile processes that are called like a runtime, and name files to Warden that they cannot read themselves.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::{Mode, SFlag, mknod};
use warden::user_view::{Anchor, Directory, UserView};

const NOBODY: u32 = 65_534;
/// Stands in every file that only root may read. No rule masks it.
const HIDDEN: &str = "only root may read this sentence";
/// Stands in files that the process may read.
const OPEN: &str = "everybody may read this sentence";

/// A folder of root's, `private`, and one of the hostile user's, `open`.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// `None` without the rights to start a process as somebody else.
    fn new() -> Option<Site> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let site = Site { folder };
        for name in ["private", "private/streams", "open", "open/data", "open/data/streams", "open/data/logs"]
        {
            std::fs::create_dir(site.path(name)).unwrap();
        }
        std::fs::create_dir_all(site.path("open/data/runtime")).unwrap();
        std::fs::create_dir_all(site.path("open/cwd/core/server")).unwrap();
        std::fs::create_dir(site.path("open/connectors")).unwrap();
        for name in ["a.toml", "a.pem", "iggy-server.log", "notes.txt"] {
            site.write(&format!("private/{name}"), &format!("# {HIDDEN}\n"), 0o600);
        }
        std::fs::set_permissions(site.path("private"), Permissions::from_mode(0o700)).unwrap();
        // In a folder that everybody may search: only the mode of the file keeps it.
        site.write("shadow.toml", &format!("# {HIDDEN}\n"), 0o600);
        site.write("open/own.toml", &format!("# {OPEN}\n[system]\npath = \"data\"\n"), 0o644);
        for program in ["iggy-server", "iggy-connectors"] {
            std::fs::copy("/bin/sleep", site.path(&format!("open/{program}"))).unwrap();
        }
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let _ = std::fs::remove_file(self.path(name));
        symlink(target, self.path(name)).unwrap();
    }

    /// Starts a program of nobody's, of this name and with this environment, in `open/cwd`.
    fn start(&self, program: &str, environment: &[(&str, &str)]) -> Hostile {
        give_away(&self.path("open"));
        let child = Command::new(self.path(&format!("open/{program}")))
            .arg0("sleep")
            .arg("600")
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(self.path("open/cwd"))
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Hostile { child, group: None }
    }
}

/// Makes all below a folder nobody's; links stay as they are.
fn give_away(folder: &Path) {
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            give_away(&entry.path());
        }
    }
}

struct Hostile {
    child: Child,
    group: Option<PathBuf>,
}

impl Hostile {
    fn view(&self) -> UserView {
        UserView::of_process(self.child.id(), None, Anchor::Root).unwrap()
    }

    /// Puts it where only a container engine of root can put a process; `false` where control groups are not to be
    /// changed.
    fn enter_container(&mut self) -> bool {
        let roots =
            ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"];
        for root in roots {
            // A folder that holds the hierarchies of version 1 is none itself.
            if !Path::new(root).join("cgroup.procs").exists() {
                continue;
            }
            let group = Path::new(root).join(format!("docker-{}.scope", self.child.id()));
            let entered = std::fs::create_dir(&group)
                .and_then(|()| std::fs::write(group.join("cgroup.procs"), self.child.id().to_string()));
            if entered.is_ok() {
                self.group = Some(group);
                return true;
            }
            let _ = std::fs::remove_dir(&group);
        }
        false
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(group) = &self.group {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// What a user sees of a file, or the kind of refusal.
fn seen(view: &UserView, path: &Path) -> Result<String, std::io::ErrorKind> {
    let read = |mut file: File| {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    };
    view.open(path).and_then(read).map_err(|error| error.kind())
}

#[test]
fn a_process_is_shown_only_what_its_user_may_read() {
    let Some(site) = Site::new() else { return };
    let (private, shadow) = (site.path("private/a.toml"), site.path("shadow.toml"));
    site.link("open/link.toml", &private);
    site.link("open/relative.toml", "../private/a.toml");
    site.link("open/folder", site.path("private"));
    site.link("open/shadow.toml", &shadow);
    site.link("open/again.toml", "own.toml");
    std::fs::hard_link(&shadow, site.path("open/hard.toml")).unwrap();
    let hostile = site.start("iggy-server", &[]);
    let view = hostile.view();
    let denied = Err(std::io::ErrorKind::PermissionDenied);
    for name in [
        "link.toml",
        "relative.toml",
        "folder/a.toml",
        "shadow.toml",
        "hard.toml",
        "cwd/../../private/a.toml",
    ] {
        assert_eq!(seen(&view, &site.path("open").join(name)), denied, "{name}");
    }
    assert_eq!(seen(&view, &private), denied);
    assert!(seen(&view, &site.path("open/again.toml")).unwrap().contains(OPEN));
    for folder in [site.path("private"), site.path("open/folder")] {
        assert_eq!(view.open_directory(&folder).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert!(view.find(&folder.join("a.toml"), false).is_err(), "not even its size");
    }
}

#[test]
fn what_blocks_never_ends_or_depends_on_who_asks_is_not_opened() {
    let Some(site) = Site::new() else { return };
    nix::unistd::mkfifo(&site.path("open/fifo.toml"), Mode::from_bits_truncate(0o666)).unwrap();
    // Not every sandbox lets root make one.
    let _ = mknod(&site.path("open/device.toml"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), 0x105);
    site.link("open/zero.toml", "/dev/zero");
    site.link("open/self.toml", "/proc/self/environ");
    site.link("open/status.toml", "/proc/1/status");
    site.link("open/loop.toml", "loop.toml");
    let hostile = site.start("iggy-server", &[]);
    let view = hostile.view();
    for name in ["fifo.toml", "device.toml", "zero.toml", "self.toml", "status.toml", "loop.toml"] {
        assert!(seen(&view, &site.path("open").join(name)).is_err(), "{name}");
    }
    let through = PathBuf::from(format!("/proc/{}/fd/0", hostile.child.id()));
    assert!(seen(&view, &through).is_err(), "what a process has open it need not be able to read");
}

#[test]
fn renaming_between_the_question_and_the_open_gains_nothing() {
    let Some(site) = Site::new() else { return };
    let hostile = site.start("iggy-server", &[]);
    let view = hostile.view();
    let (raced, ended) = (site.path("open/raced.toml"), AtomicBool::new(false));
    site.link("open/raced.toml", "own.toml");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                let next = site.path("open/next.toml");
                let _ = std::fs::remove_file(&next);
                match turn % 3 {
                    0 => symlink(site.path("private/a.toml"), &next).unwrap(),
                    1 => std::fs::hard_link(site.path("shadow.toml"), &next).unwrap(),
                    _ => symlink("own.toml", &next).unwrap(),
                }
                std::fs::rename(&next, &raced).unwrap();
                turn += 1;
            }
        });
        let answers: Vec<_> = (0..3000).map(|_| seen(&view, &raced)).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().is_ok_and(|text| text.contains(OPEN)) || answer.is_err())
        );
        assert!(answers.iter().flatten().all(|text| !text.contains(HIDDEN)));
    });
}

#[test]
fn a_pid_that_another_process_has_by_now_stands_for_nobody() {
    let Some(site) = Site::new() else { return };
    let hostile = site.start("iggy-server", &[]);
    let pid = hostile.child.id();
    assert!(UserView::of_process(pid, Some(1), Anchor::Root).is_err());
    drop(hostile);
    assert!(UserView::of_process(pid, None, Anchor::Root).is_err());
}

#[test]
fn a_data_directory_gives_no_file_that_its_owner_may_not_read() {
    let Some(site) = Site::new() else { return };
    std::fs::hard_link(site.path("shadow.toml"), site.path("open/data/hard.toml")).unwrap();
    site.link("open/data/link.toml", site.path("private/a.toml"));
    site.link("open/data/folder", site.path("private"));
    std::fs::create_dir(site.path("open/data/closed")).unwrap();
    give_away(&site.path("open"));
    // Made by root within it, as by a command that was run as root once.
    chown(site.path("open/data/closed"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(site.path("open/data/closed"), Permissions::from_mode(0o700)).unwrap();
    site.write("open/data/closed/a.toml", HIDDEN, 0o644);
    site.write("open/data/own.toml", OPEN, 0o644);
    let directory = Directory::of_owner(&site.path("open/data")).unwrap();
    let open = |name: &str| directory.open_file(Path::new(name), rustix::fs::OFlags::empty());
    for name in ["hard.toml", "link.toml", "folder/a.toml", "closed/a.toml", "../shadow.toml", ""] {
        assert!(open(name).is_err(), "{name}");
    }
    assert!(open("own.toml").unwrap().as_raw_fd() > 0);
}

/// All bytes of a bundle, its archives unpacked.
fn content(path: &Path) -> String {
    let mut text = String::new();
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        text += &format!("\n== {name}\n");
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        if name.ends_with(".zip") {
            let inner = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(inner.path(), &bytes).unwrap();
            text += &content(inner.path());
        } else {
            text += &String::from_utf8_lossy(&bytes);
        }
    }
    text
}

const CHECKS: &str = "runtime-iggy-config,runtime-iggy-data,runtime-connectors,certificates-files,logs-iggy";

fn bundle(site: &Site, arguments: &[&str]) -> String {
    let out = site.path("bundle.zip");
    let output = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--only", CHECKS, "-o"])
        .arg(&out)
        .args(arguments)
        .env_clear()
        .env("OF_WARDEN_ITSELF", HIDDEN.replace(' ', "_"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    // A server of this machine whose password is a word of the bundle: nothing leaves then.
    if told.contains("nothing was written") {
        return String::new();
    }
    assert!(output.status.success(), "{told}");
    content(&out)
}

/// What it is, the program, and its environment.
type Reference = (&'static str, &'static str, Vec<(&'static str, String)>);

/// Every kind of reference that is followed.
fn references(site: &Site) -> Vec<Reference> {
    site.link("open/link.toml", site.path("private/a.toml"));
    site.link("open/self.toml", "/proc/self/environ");
    site.link("open/folder", site.path("private"));
    site.link("open/link.pem", site.path("private/a.pem"));
    site.link("open/connectors/link.toml", site.path("private/a.toml"));
    site.link("open/cwd/core/server/config.toml", site.path("private/a.toml"));
    site.link("open/data/runtime/current_config.toml", site.path("private/a.toml"));
    site.link("open/data/logs/iggy-server.log", site.path("private/iggy-server.log"));
    let path = |name: &str| site.path(&format!("open/{name}")).to_str().unwrap().to_owned();
    let tls = |key: &'static str| vec![("IGGY_HTTP_TLS_ENABLED", "true".to_owned()), (key, path("link.pem"))];
    vec![
        ("configuration file", "iggy-server", vec![("IGGY_CONFIG_PATH", path("link.toml"))]),
        ("its folder", "iggy-server", vec![("IGGY_CONFIG_PATH", path("folder/a.toml"))]),
        ("below /proc", "iggy-server", vec![("IGGY_CONFIG_PATH", path("self.toml"))]),
        ("working directory", "iggy-server", vec![]),
        ("data directory", "iggy-server", vec![("IGGY_SYSTEM_PATH", path("data"))]),
        ("data directory of root", "iggy-server", vec![("IGGY_SYSTEM_PATH", path("folder"))]),
        ("certificate", "iggy-server", tls("IGGY_HTTP_TLS_CERT_FILE")),
        ("key", "iggy-server", tls("IGGY_HTTP_TLS_KEY_FILE")),
        ("of the connectors", "iggy-connectors", vec![("IGGY_CONNECTORS_CONFIG_PATH", path("link.toml"))]),
        (
            "connectors",
            "iggy-connectors",
            vec![("IGGY_CONNECTORS_CONNECTORS_CONFIG_DIR", path("connectors"))],
        ),
    ]
}

#[test]
fn nothing_that_a_hostile_process_names_comes_into_a_bundle() {
    let Some(site) = Site::new() else { return };
    for (what, program, environment) in references(&site) {
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // A stranger's, and one that is trusted as far as its user goes.
        let mut hostile = site.start(program, &environment);
        for container in [false, true] {
            if container && !hostile.enter_container() {
                continue;
            }
            let text = bundle(&site, &[]);
            assert!(!text.contains(HIDDEN) && !text.contains(&HIDDEN.replace(' ', "_")), "{what}");
        }
    }
}

#[test]
fn what_a_trusted_process_names_and_may_read_is_read() {
    let Some(site) = Site::new() else { return };
    let path = site.path("open/own.toml");
    let mut hostile = site.start("iggy-server", &[("IGGY_CONFIG_PATH", path.to_str().unwrap())]);
    assert!(!bundle(&site, &[]).contains(OPEN), "a stranger's is not even asked for");
    // Of several servers one is judged.
    if !has_other_servers(hostile.child.id()) && hostile.enter_container() {
        assert!(bundle(&site, &[]).contains(OPEN));
    }
}

/// Other tests start theirs as well, and the machine may have its own.
fn has_other_servers(own: u32) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut others = processes.filter(|process| process.file_name() != own.to_string().as_str());
    others.any(|process| {
        std::fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with("iggy-server"))
    })
}

#[test]
fn the_archive_of_a_hostile_data_directory_holds_nothing_of_roots() {
    let Some(site) = Site::new() else { return };
    std::fs::hard_link(site.path("private/notes.txt"), site.path("open/data/notes.txt")).unwrap();
    site.link("open/data/logs/iggy-server.log", site.path("private/iggy-server.log"));
    site.write("open/data/own.txt", OPEN, 0o644);
    give_away(&site.path("open"));
    let data = site.path("open/data");
    let text = bundle(&site, &["--include-iggy", "--iggy-data", data.to_str().unwrap()]);
    assert!(!text.contains(HIDDEN));
    if !text.is_empty() {
        assert!(text.contains(OPEN), "what its owner may read is packed");
        assert!(text.contains("permission denied"), "and what was left out is told");
    }
}
