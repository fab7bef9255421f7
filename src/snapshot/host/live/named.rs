//! Files that Warden did not name itself: answered with the rights of whoever did.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::User;
use warden_checks::{CHECKS, iggy};
use warden_host::{
    Cause, Data, FILE_BYTES, FILES_BYTES, FILES_COUNT, Failure, FileText, Read, Request, Rights, Settings,
    Unread, component_matches,
};
use warden_platform::user_view::{Anchor, Directory, Permissions, UserView};

use super::{files, public_key};

/// What the head of a report shows, beside what the checks declare.
const FACTS: [&str; 3] = ["/etc/os-release", "/etc/machine-id", "/etc/hostname"];
const NOT_NAMED: &str = "is not read: neither Warden nor a trusted process names it";

/// How a request for a path is answered.
pub enum Access {
    /// With all rights of this process: the path is Warden's own, or nothing of a file's content is told.
    Own,
    /// As the user of a process sees it, at this path.
    Of(UserView, PathBuf),
}

/// With whose rights a request without any is answered. Only what the catalogue names, by a pattern that says where it
/// lies, is Warden's own; a path that came from elsewhere and lost its rights on the way is refused.
pub fn access(request: &Request, settings: &Settings) -> Result<Access, Cause> {
    let is_plain = !matches!(request, Request::OnBehalf { .. });
    let Some(path) = request.path().filter(|_| is_plain) else { return Ok(Access::Own) };
    // Sizes of a filesystem tell nothing of a file.
    if matches!(request, Request::Space { .. } | Request::Sample { .. }) {
        return Ok(Access::Own);
    }
    if let Some((pid, anchor, rest)) = of_process(path) {
        // The link itself is the kernel's to tell; what is behind it belongs to the process.
        let is_link = rest.is_empty() && matches!(request, Request::Link { .. } | Request::Stat { .. });
        if is_link {
            return Ok(Access::Own);
        }
        let view = UserView::of_process(pid, None, anchor).map_err(files::cause_of)?;
        return Ok(Access::Of(view, PathBuf::from(rest)));
    }
    let refused = || Cause::Other(NOT_NAMED.to_owned());
    if path.split('/').any(|part| part == "..") {
        return Err(refused());
    }
    if path.starts_with("/proc/") {
        let follows = !matches!(request, Request::Link { .. } | Request::Stat { .. });
        return if follows && is_link_of_kernel(path) { Err(refused()) } else { Ok(Access::Own) };
    }
    let of_agent = Path::new(path).starts_with(&settings.state_directory);
    if path.starts_with("/sys/") || of_agent || FACTS.contains(&path) || is_declared(request) {
        return Ok(Access::Own);
    }
    Err(refused())
}

/// Whether a check declares the request by a pattern that says where it lies.
fn is_declared(request: &Request) -> bool {
    let reads = CHECKS.iter().flat_map(|check| check.reads).chain(iggy::READS);
    let own = reads.filter(|read| match read {
        Read::Path(pattern) | Read::Tail(pattern) | Read::Sample(pattern) => !pattern.starts_with("/**/"),
        Read::Space
        | Read::Command(_)
        | Read::Units
        | Read::Journal
        | Read::KernelLog
        | Read::Http
        | Read::IggyApi
        | Read::Tls
        | Read::Resolve
        | Read::Connect
        | Read::PublicKey
        | Read::Group(_) => false,
    });
    own.into_iter().any(|read| read.covers(request))
}

/// `/proc/70/root/etc/x` is process 70, its root directory and `/etc/x`.
fn of_process(path: &str) -> Option<(u32, Anchor, &str)> {
    let (pid, rest) = path.strip_prefix("/proc/")?.split_once('/')?;
    let pid = pid.parse().ok()?;
    let below = |anchor: Anchor| {
        let rest = rest.strip_prefix(anchor.name())?;
        (rest.is_empty() || rest.starts_with('/')).then_some((pid, anchor, rest))
    };
    below(Anchor::Root).or_else(|| below(Anchor::WorkingDirectory))
}

/// Links below /proc/PID that lead to what a process has open: it need not be able to read that itself.
fn is_link_of_kernel(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(3).collect();
    let parts = if parts.first() == Some(&"task") { parts.get(2..).unwrap_or_default() } else { &parts[..] };
    matches!(parts, ["fd" | "map_files", _, ..] | ["exe" | "cwd" | "root", ..])
}

/// The filesystem as the holder of `rights` sees it, and `path` in it.
pub fn view(rights: &Rights, path: &str) -> Result<(UserView, PathBuf), Cause> {
    let whole = || PathBuf::from(path);
    match rights {
        Rights::Process { pid, started } => {
            let view = UserView::of_process(*pid, Some(*started), Anchor::Root).map_err(files::cause_of)?;
            let inside = path.strip_prefix(&format!("/proc/{pid}/root"));
            Ok((view, inside.map_or_else(whole, PathBuf::from)))
        }
        Rights::User { name } => {
            let found = match name.parse::<u32>() {
                Ok(number) => User::from_uid(number.into()),
                Err(_) => User::from_name(name),
            };
            let user = found.ok().flatten();
            let user = user.ok_or_else(|| Cause::Other(format!("there is no user {name} to read it as")))?;
            let view = UserView::new(Permissions::of_known(&user)).map_err(files::cause_of)?;
            Ok((view, whole()))
        }
        Rights::Owner { of } => {
            let everything = UserView::new(Permissions::all()).map_err(files::cause_of)?;
            let found = everything.find(Path::new(of), true).map_err(files::cause_of)?;
            let owner = Permissions::of_number(found.owner());
            let view = UserView::new(owner).map_err(files::cause_of)?;
            Ok((view, whole()))
        }
    }
}

/// The directory at `path` as the holder of `rights` sees it.
pub fn directory(rights: &Rights, path: &Path) -> anyhow::Result<Directory> {
    let failed = || format!("cannot open {} with the rights of {rights}", path.display());
    let text = path.to_str().with_context(failed)?;
    let (view, inside) = view(rights, text).with_context(failed)?;
    Directory::in_view(&view, &inside).with_context(failed)
}

/// Answers a request for files as `view` has them; `path` is where.
pub fn answer(view: &UserView, path: &Path, request: &Request) -> Result<Data, Cause> {
    match request.plain() {
        Request::File { .. } => files::read_open(open(view, path)?, FILE_BYTES).map(Data::Text),
        Request::Tail { .. } => files::tail_open(open(view, path)?).map(Data::Text),
        Request::PublicKey { .. } => public_key::public_half_of(open(view, path)?),
        Request::Files { pattern } => matching(view, path, Path::new(pattern)),
        Request::List { .. } => {
            let directory = view.open_directory(path).map_err(files::cause_of)?;
            files::list(&format!("/proc/self/fd/{}", directory.as_raw_fd()))
        }
        Request::Link { .. } => {
            let target = view.find(path, false).and_then(|found| found.target()).map_err(files::cause_of)?;
            Ok(Data::Link { target: target.to_string_lossy().into_owned() })
        }
        Request::Stat { .. } => {
            let place = view.find(path, false).map_err(files::cause_of)?.into_place();
            let metadata = place.metadata().map_err(files::cause_of)?;
            Ok(Data::Stat(files::stat_of(&metadata)))
        }
        Request::Space { .. } => {
            let place = view.find(path, true).map_err(files::cause_of)?.into_place();
            files::space_of(nix::sys::statvfs::fstatvfs(&place)).map(Data::Space)
        }
        Request::Sample { .. }
        | Request::Uname
        | Request::Clock
        | Request::Settings
        | Request::Command { .. }
        | Request::UnitList
        | Request::Unit { .. }
        | Request::Journal { .. }
        | Request::KernelLog
        | Request::Http { .. }
        | Request::IggyApi { .. }
        | Request::Tls { .. }
        | Request::Resolve { .. }
        | Request::Connect { .. }
        | Request::OnBehalf { .. } => Err(Cause::Other("names no file".to_owned())),
    }
}

fn open(view: &UserView, path: &Path) -> Result<std::fs::File, Cause> {
    view.open(path).map_err(files::cause_of)
}

/// Every file that matches a pattern whose last component alone has a `*`. What may not be read, and what was cut, is
/// told: what is missing of a configuration would pass for what is not configured.
fn matching(view: &UserView, pattern: &Path, asked: &Path) -> Result<Data, Cause> {
    let (Some(directory), Some(wanted)) =
        (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Err(Cause::Other("names no file".to_owned()));
    };
    let listed = view.open_directory(directory).map_err(files::cause_of)?;
    let listed = files::list(&format!("/proc/self/fd/{}", listed.as_raw_fd()))?;
    let Data::Entries { entries, mut left_out } = listed else {
        return Err(Cause::Other("cannot be listed".to_owned()));
    };
    let (mut files, mut bytes, mut unread) = (Vec::new(), 0, Unread::default());
    for entry in entries.into_iter().filter(|entry| component_matches(wanted, &entry.name)) {
        if bytes >= FILES_BYTES || files.len() >= FILES_COUNT {
            left_out += 1;
            continue;
        }
        // By the name that it was asked for: of a process in a container that is longer.
        let shown = asked.with_file_name(&entry.name).to_string_lossy().into_owned();
        let content = view.open(&directory.join(&entry.name)).map_err(files::cause_of);
        match content.and_then(|file| files::read_up_to(file, FILE_BYTES)) {
            Ok((content, more)) => {
                bytes += content.len() as u64;
                if more {
                    unread.add(Failure { what: shown.clone(), cause: files::too_long() });
                }
                files.push(FileText { path: shown, text: files::lossy(content) });
            }
            Err(Cause::Absent) => {}
            Err(cause) => unread.add(Failure { what: shown, cause }),
        }
    }
    Ok(Data::Files { files, left_out, unread })
}
