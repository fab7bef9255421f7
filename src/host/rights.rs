//! With whose rights a file is read whose path Warden did not choose itself.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Request;

/// Whose permissions decide whether a file is read. Warden runs with more rights than most: whoever names a path to it
/// must not learn by that what they cannot read themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Those of a process, below its own root directory. `started`, in clock ticks since boot, tells it from a later
    /// process with the same number.
    Process { pid: u32, started: u64 },
    /// Those of the user that a unit runs as.
    User { name: String },
    /// Those of the user that a directory belongs to.
    Owner { of: String },
}

impl std::fmt::Display for Rights {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rights::Process { pid, .. } => write!(out, "process {pid}"),
            Rights::User { name } => write!(out, "user {name}"),
            Rights::Owner { of } => write!(out, "the owner of {of}"),
        }
    }
}

/// The paths that were named to Warden, and by whom. A [`super::Host`] looks every request up in it, so that no check
/// has to remember where a path came from.
#[derive(Clone, Debug, Default)]
pub struct NamedPaths(Arc<Mutex<Vec<(String, Rights)>>>);

/// Which paths were named does not tell one configuration from another.
impl PartialEq for NamedPaths {
    fn eq(&self, _: &NamedPaths) -> bool {
        true
    }
}

/// Naming one of these would take away what Warden asks the kernel itself.
const NEVER_NAMED: [&str; 3] = ["", "/proc", "/sys"];

impl NamedPaths {
    /// Notes that `path`, and all below it, was named by the holder of `rights`. The first to name a path keeps it.
    pub fn add(&self, path: &str, rights: &Rights) {
        let path = path.trim_end_matches('/');
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !NEVER_NAMED.contains(&path) && named.iter().all(|(known, _)| known != path) {
            named.push((path.to_owned(), rights.clone()));
        }
    }

    /// Returns with whose rights `path` is to be read; `None` when nobody named it.
    pub fn rights(&self, path: &str) -> Option<Rights> {
        let named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |known: &str| {
            path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let longest = named.iter().filter(|(known, _)| covers(known)).max_by_key(|(known, _)| known.len());
        longest.map(|(_, rights)| rights.clone())
    }

    pub(super) fn on_behalf(&self, request: Request) -> Request {
        match request.path().and_then(|path| self.rights(path)) {
            Some(rights) => Request::OnBehalf { rights, request: Box::new(request) },
            None => request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Rights {
        Rights::User { name: name.to_owned() }
    }

    #[test]
    fn the_longest_named_path_decides_at_whole_components() {
        let named = NamedPaths::default();
        named.add("/srv/iggy/", &user("iggy"));
        named.add("/srv/iggy/plugins", &user("connectors"));
        named.add("/srv/iggy", &user("late"));
        assert_eq!(named.rights("/srv/iggy"), Some(user("iggy")));
        assert_eq!(named.rights("/srv/iggy/a.toml"), Some(user("iggy")));
        assert_eq!(named.rights("/srv/iggy/plugins/a.so"), Some(user("connectors")));
        assert_eq!((named.rights("/srv/iggy2"), named.rights("/srv")), (None, None));
    }

    #[test]
    fn nobody_can_name_the_files_of_the_kernel_away() {
        let named = NamedPaths::default();
        for path in ["/", "", "/proc", "/proc/", "/sys"] {
            named.add(path, &user("iggy"));
        }
        assert_eq!((named.rights("/proc/1/stat"), named.rights("/etc/os-release")), (None, None));
    }
}
