//! What keeps a server from starting where its data is, and what lets it start where the data is not.

use warden_host::proc::Mount;
use warden_host::quantity::count;
use warden_host::{Host, IfAny, Kind, PLACEHOLDER, Stat, UnitProperties};

use crate::iggy::{self, DataDirectory, Launch, Runtime};
use crate::{Advice, Finding, quoted, units};

/// Who a stopped server would run as.
struct User {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Of a unit that does not run: everything that would end its next start, the data first.
pub fn judge_stopped(host: &Host, finding: &mut Finding, unit: &UnitProperties) {
    let Some((data, launch)) = iggy::intended_data_directory(host) else { return };
    let is_unmounted = judge_mount(host, finding, &data.path);
    let user = user_of(host, unit);
    if !is_unmounted {
        judge_directory(host, finding, &data, user.as_ref());
        judge_sandbox(host, finding, &data, unit, &launch);
    }
    if let Some(user) = user.filter(|user| user.uid != 0) {
        judge_keys(host, finding, &user);
    }
}

/// Of a server that runs: whether it runs on an empty directory while its data lies elsewhere.
pub fn judge_running(host: &Host, finding: &mut Finding) {
    let Some(data) = iggy::data_directory(host) else { return };
    // What lies outside a container was never the data of the server in it.
    if data.path.starts_with("/proc/") {
        return;
    }
    if judge_mount(host, finding, &data.path) || !matches!(streams(host, &data.path), Some(0)) {
        return;
    }
    for other in places_beside(host, &data.path) {
        let Some(found) = streams(host, &other).filter(|&found| found > 0) else { continue };
        let text = format!(
            "the server runs on {}, which holds no stream, and {other} holds {}: it was started from another directory or with another configuration than before",
            data.path,
            count(found, "stream", "streams"),
        );
        let advice = Advice::run(
            format!(
                "If {other} is the data that is missed: set `path` of the configuration (IGGY_SYSTEM_PATH until 0.9.0, IGGY_PATH since) to it, absolute, and only then start the server again. Move nothing."
            ),
            format!("ls -l {} {}", quoted(&data.path), quoted(&other)),
        );
        finding.fail(text, advice);
        return;
    }
}

/// Stream directories; `None` when they cannot be listed.
fn streams(host: &Host, data: &str) -> Option<u64> {
    let entries = host.list(&format!("{data}/streams")).if_any().ok()?.unwrap_or_default();
    Some(entries.iter().filter(|entry| entry.kind == Kind::Directory).count() as u64)
}

/// Where a relative path, a changed unit or a forgotten variable would have had it.
fn places_beside(host: &Host, here: &str) -> Vec<String> {
    let mut places: Vec<String> = iggy::launches(host, Runtime::Iggy)
        .iter()
        .filter_map(|launch| launch.absolute("local_data"))
        .collect();
    if let Some(unit) = iggy::unit_of(host, Runtime::Iggy).ok().and_then(|name| host.unit(&name).ok()) {
        let directory =
            unit.text("WorkingDirectory").map(|path| path.trim_start_matches(['-', '!']).to_owned());
        places.extend(directory.map(|directory| format!("{}/local_data", directory.trim_end_matches('/'))));
        let paths = unit.list("Environment").into_iter().filter_map(|variable| variable.split_once('='));
        let is_path = |name: &str| matches!(name, "IGGY_PATH" | "IGGY_SYSTEM_PATH");
        places.extend(paths.filter(|(name, _)| is_path(name)).map(|(_, path)| path.to_owned()));
    }
    if let Some((parent, _)) = here.rsplit_once('/') {
        places.push(format!("{parent}/local_data"));
        places.push(format!("{here}/local_data"));
        places.push(parent.to_owned());
    }
    places.extend(iggy::WELL_KNOWN.iter().map(|&path| path.to_owned()));
    places.push("/root/local_data".to_owned());
    let mut seen = std::collections::BTreeSet::from([here.to_owned()]);
    places.retain(|place| place.starts_with('/') && seen.insert(place.clone()));
    places
}

/// A filesystem that /etc/fstab wants at or above the directory, and that is not mounted: what lies there is the
/// empty directory below it.
fn judge_mount(host: &Host, finding: &mut Finding, path: &str) -> bool {
    let Ok(Some(table)) = host.read("/etc/fstab").if_any() else { return false };
    let mounts = match Mount::all(host) {
        Ok(mounts) => mounts,
        Err(error) => {
            let advice = Advice::run("Compare it with /etc/fstab.", format!("findmnt -T {}", quoted(path)));
            finding.note(format!("whether all is mounted that should be cannot be told: {error}"), advice);
            return false;
        }
    };
    let wanted = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (device, point) = (fields.next()?, fields.next()?);
        if !device.starts_with('#') && !point.starts_with('/') && line.contains(PLACEHOLDER) {
            host.note_masked("/etc/fstab");
        }
        let options = fields.nth(1).unwrap_or_default();
        let is_late = options.split(',').any(|option| option == "noauto");
        (!device.starts_with('#') && point.starts_with('/') && point != "/" && !is_late)
            .then_some((device, point))
    });
    let above = |point: &str| {
        let point = point.trim_end_matches('/');
        path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'))
    };
    let missing = wanted
        .filter(|(_, point)| above(point))
        .find(|(_, point)| mounts.iter().all(|mount| mount.point != point.trim_end_matches('/')));
    let Some((device, point)) = missing else { return false };
    let text = format!(
        "{device} is not mounted at {point}, where /etc/fstab has it: {path} is the directory below the mount, not the data"
    );
    let advice = Advice::run(
        "Mount it before the server is started (again): a server that starts without it begins empty, and its files are hidden later. RequiresMountsFor= in the unit keeps it from starting too early.",
        format!("mount {} && findmnt {}", quoted(point), quoted(point)),
    );
    finding.fail(text, advice);
    true
}

fn judge_directory(host: &Host, finding: &mut Finding, data: &DataDirectory, user: Option<&User>) {
    let path = &data.path;
    if host.space(path).is_ok_and(|space| space.read_only) {
        let text = format!("{path} is on a filesystem that is mounted read-only: the server cannot start");
        let advice = "See kernel-log and disk-health for why before it is made writable again: the kernel does this after errors.";
        finding.fail(text, Advice::run(advice, format!("findmnt -T {}", quoted(path))));
        return;
    }
    let Some(user) = user.filter(|user| user.uid != 0) else { return };
    let own = |path: &str| {
        Advice::run(
            format!("Give it to {} (user {}).", user.name, user.uid),
            format!("chown -R {}:{} {}", user.uid, user.gid, quoted(path)),
        )
    };
    let mut above = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = if above.is_empty() { "/".to_owned() } else { above.clone() };
        above = format!("{above}/{part}");
        match host.stat(&above).if_any() {
            Ok(Some(stat)) if stat.kind == Kind::Link => return,
            Ok(Some(stat)) if stat.kind != Kind::Directory => {
                let text = format!("{above} is no directory, and the data of the server should be below it");
                finding.fail(text, Advice::run("See what it is.", format!("ls -ld {}", quoted(&above))));
                return;
            }
            Ok(Some(stat)) if !user.may(&stat, 0o1) => {
                let text = format!(
                    "{} may not enter {above} ({}), so the server cannot reach its data in {path}",
                    user.name,
                    shown(&stat)
                );
                let advice = Advice::run("Let it pass.", format!("chmod o+x {}", quoted(&above)));
                finding.fail(text, if above == *path { own(path) } else { advice });
                return;
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                let may = host.stat(&parent).is_ok_and(|stat| user.may(&stat, 0o3));
                if !may {
                    let text = format!(
                        "{path} does not exist, and {} may not make it in {parent}: the server ends with CannotCreateStateDirectory",
                        user.name
                    );
                    let command =
                        format!("install -d -o {} -g {} -m 0750 {}", user.uid, user.gid, quoted(path));
                    let advice = "If there was data before, find it first (a mount, another name). For a new server make the directory.";
                    finding.fail(text, Advice::run(advice, command));
                }
                return;
            }
            Err(_) => return,
        }
    }
    for below in [
        path.clone(),
        format!("{path}/streams"),
        format!("{path}/metadata"),
        format!("{path}/state"),
        format!("{path}/logs"),
    ] {
        let Ok(Some(stat)) = host.stat(&below).if_any() else { continue };
        if stat.kind == Kind::Directory && !user.may(&stat, 0o3) {
            let text = format!(
                "{below} is not writable for {} ({}): the server cannot start",
                user.name,
                shown(&stat)
            );
            finding.fail(text, own(path));
            return;
        }
    }
}

/// systemd.exec(5): with ProtectSystem=strict only what is named may be written to.
fn judge_sandbox(
    host: &Host,
    finding: &mut Finding,
    data: &DataDirectory,
    unit: &UnitProperties,
    launch: &Launch,
) {
    let path = &data.path;
    let strict = unit.text("ProtectSystem") == Some("strict");
    let hidden = matches!(unit.text("ProtectHome"), Some("yes" | "tmpfs"));
    let in_home = ["/home/", "/root/", "/run/user/"].iter().any(|home| format!("{path}/").starts_with(home));
    // Without the lists of what is allowed, or with mounts of its own, nothing can be said.
    let bound = unit.properties.get("BindPaths").and_then(|value| value.as_array());
    if bound.is_some_and(|paths| !paths.is_empty())
        || !["ReadWritePaths", "StateDirectory"].iter().all(|name| unit.properties.contains_key(*name))
    {
        return;
    }
    let states = unit.list("StateDirectory").into_iter().map(|name| format!("/var/lib/{name}"));
    let allowed: Vec<String> = unit
        .list("ReadWritePaths")
        .into_iter()
        .map(|path| path.trim_start_matches(['-', '+']).to_owned())
        .chain(states)
        .collect();
    let is_allowed = allowed.iter().any(|allowed| {
        let allowed = allowed.trim_end_matches('/');
        path == allowed || path.strip_prefix(allowed).is_some_and(|rest| rest.starts_with('/'))
    });
    let temporary =
        ["/tmp/", "/var/tmp/", "/dev/", "/proc/", "/sys/"].iter().any(|top| path.starts_with(top));
    let why = match (strict && !is_allowed && !temporary, hidden && in_home) {
        (_, true) => "ProtectHome=",
        (true, false) => "ProtectSystem=strict",
        (false, false) => return,
    };
    let text =
        format!("{} may not write to {path}: {why} of the unit makes it read-only or hides it", launch.name);
    finding.fail(text, units::drop_in(host, &launch.name, &format!("ReadWritePaths={path}")));
}

fn judge_keys(host: &Host, finding: &mut Finding, user: &User) {
    let mut seen = std::collections::BTreeSet::new();
    let listeners = iggy::listeners(host).into_iter().filter(|listener| listener.runtime == Runtime::Iggy);
    for key in listeners.filter_map(|listener| listener.key).filter(|key| seen.insert(key.clone())) {
        let Ok(Some(stat)) = host.stat(&key).if_any() else { continue };
        if stat.kind == Kind::File && !user.may(&stat, 0o4) {
            let text = format!(
                "the TLS key {key} cannot be read by {} ({}): the server cannot start",
                user.name,
                shown(&stat)
            );
            let command = format!("chgrp {} {} && chmod g+r,o= {}", user.gid, quoted(&key), quoted(&key));
            finding.fail(text, Advice::run("Let its group read it, and nobody else.", command));
        }
    }
}

fn shown(stat: &Stat) -> String {
    format!("owner {}:{}, mode {:04o}", stat.uid, stat.gid, stat.mode)
}

impl User {
    /// Whether the bits of `wanted` (4 read, 2 write, 1 enter) are granted; root is not asked.
    fn may(&self, stat: &Stat, wanted: u32) -> bool {
        let shift = match stat {
            stat if stat.uid == self.uid => 6,
            stat if stat.gid == self.gid || self.groups.contains(&stat.gid) => 3,
            _ => 0,
        };
        stat.mode >> shift & wanted == wanted
    }
}

/// `None` for a dynamic user, whom systemd gives what it needs, and for one that this host does not name.
fn user_of(host: &Host, unit: &UnitProperties) -> Option<User> {
    if unit.flag("DynamicUser") == Some(true) {
        return None;
    }
    let name = unit.text("User").filter(|name| !name.is_empty()).unwrap_or("root");
    let users = host.read("/etc/passwd").ok()?;
    let row = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|row| row.first() == Some(&name) || row.get(2) == Some(&name))?;
    let (uid, mut gid): (u32, u32) = (row.get(2)?.parse().ok()?, row.get(3)?.parse().ok()?);
    let groups = host.read("/etc/group").unwrap_or_default();
    let groups: Vec<(&str, u32, &str)> = groups.lines().filter_map(group).collect();
    if let Some(wanted) = unit.text("Group").filter(|wanted| !wanted.is_empty()) {
        let named = groups.iter().find(|(name, id, _)| *name == wanted || id.to_string() == wanted);
        gid = named.map_or(gid, |(_, id, _)| *id);
    }
    let more = unit.list("SupplementaryGroups");
    let is_member = |(group, id, members): &&(&str, u32, &str)| {
        members.split(',').any(|member| member == row[0])
            || more.iter().any(|more| more == group || *more == id.to_string())
    };
    let groups = groups.iter().filter(is_member).map(|(_, id, _)| *id).collect();
    Some(User { name: row[0].to_owned(), uid, gid, groups })
}

fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let id = fields.nth(1)?.parse().ok()?;
    Some((name, id, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warden_host::{Data, Recorded, Request};

    use super::super::CHECK;
    use super::*;
    use crate::Verdict;
    use crate::iggy::tests::{directory, link, running, settings, stat};

    fn owned(host: Recorded, path: &str, kind: Kind, uid: u32, mode: u32) -> Recorded {
        let stat = Stat { uid, gid: uid, mode, ..stat(kind, 9) };
        host.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat))
    }

    fn stopped() -> Recorded {
        let unit = json!({
            "LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "failed", "Result": "exit-code",
            "User": "iggy", "Group": "iggy", "Environment": ["IGGY_SYSTEM_PATH=/srv/iggy"], "WorkingDirectory": "/",
            "ProtectSystem": "strict", "ReadWritePaths": ["/srv/iggy"], "StateDirectory": []
        });
        let host = Recorded::complete().settings(settings()).unit("iggy.service", unit);
        let host = host
            .file("/etc/passwd", "root:x:0:0::/:/bin/sh\niggy:x:997:995::/:/bin/false\n")
            .file("/etc/group", "iggy:x:995:\nssl-cert:x:110:other,iggy\n");
        let host = owned(host, "/srv", Kind::Directory, 0, 0o755);
        owned(host, "/srv/iggy", Kind::Directory, 997, 0o750).space("/srv/iggy", 1 << 30, 1 << 29)
    }

    fn first(host: Recorded) -> (Verdict, String) {
        let finding = (CHECK.run)(&host.host()).unwrap();
        (finding.verdict(), finding.problems[0].text.clone())
    }

    #[test]
    fn a_directory_that_its_user_can_use_leaves_only_the_symptom() {
        let expected =
            "iggy.service is enabled and no Iggy server runs (the unit is failed, last result exit-code)";
        assert_eq!(first(stopped()), (Verdict::Fail, expected.to_owned()));
    }

    #[test]
    fn a_directory_that_belongs_to_somebody_else_stands_above_the_symptom() {
        let (_, text) = first(owned(stopped(), "/srv/iggy", Kind::Directory, 0, 0o755));
        assert_eq!(
            text,
            "/srv/iggy is not writable for iggy (owner 0:0, mode 0755): the server cannot start"
        );
        let (_, text) = first(owned(stopped(), "/srv/iggy/streams", Kind::Directory, 0, 0o755));
        assert!(text.starts_with("/srv/iggy/streams is not writable for iggy"), "{text}");
        let (_, text) = first(owned(stopped(), "/srv", Kind::Directory, 0, 0o700));
        assert!(text.starts_with("iggy may not enter /srv (owner 0:0, mode 0700)"), "{text}");
        let (_, text) = first(owned(stopped(), "/srv", Kind::File, 0, 0o700));
        assert!(text.starts_with("/srv is no directory"), "{text}");
    }

    #[test]
    fn a_missing_directory_a_read_only_one_and_an_unmounted_one_are_told_apart() {
        let gone = Request::Stat { path: "/srv/iggy".to_owned() };
        let (_, text) = first(stopped().without(gone, warden_host::Cause::Absent));
        assert!(text.starts_with("/srv/iggy does not exist, and iggy may not make it in /srv"), "{text}");
        let space =
            warden_host::Space { size: 9, free: 9, available: 9, inodes: 0, inodes_free: 0, read_only: true };
        let (_, text) =
            first(stopped().with(Request::Space { path: "/srv/iggy".to_owned() }, Data::Space(space)));
        assert!(text.contains("mounted read-only"), "{text}");
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let table = "# /dev/sdc1 /srv ext4\n/dev/sdb1 /srv/iggy xfs defaults 0 2\n";
        let with = |mounts: &str| stopped().file("/etc/fstab", table).file("/proc/self/mountinfo", mounts);
        let (_, text) = first(with(mounts));
        assert_eq!(
            text,
            "/dev/sdb1 is not mounted at /srv/iggy, where /etc/fstab has it: /srv/iggy is the directory below the mount, not the data"
        );
        let mounted = format!("{mounts}2 1 8:2 / /srv/iggy rw - xfs /dev/sdb1 rw\n");
        assert!(first(with(&mounted)).1.starts_with("iggy.service is enabled and no"));
    }

    #[test]
    fn a_sandbox_that_shuts_the_directory_out_and_a_key_that_cannot_be_read_are_named() {
        let host = stopped().host();
        let mut unit = host.unit("iggy.service").unwrap();
        unit.properties.insert("ReadWritePaths".to_owned(), json!(["/var/lib/iggy"]));
        let strict =
            stopped().with(Request::Unit { name: "iggy.service".to_owned() }, Data::Unit(unit.clone()));
        let (_, text) = first(strict);
        assert_eq!(
            text,
            "iggy.service may not write to /srv/iggy: ProtectSystem=strict of the unit makes it read-only or hides it"
        );
        let tls = json!([
            "IGGY_SYSTEM_PATH=/srv/iggy",
            "IGGY_TCP_TLS_ENABLED=true",
            "IGGY_TCP_TLS_SELF_SIGNED=false",
            "IGGY_TCP_TLS_KEY_FILE=/etc/ssl/private/k.pem"
        ]);
        let mut unit = host.unit("iggy.service").unwrap();
        unit.properties.insert("Environment".to_owned(), tls);
        let with_key = |uid: u32, mode: u32| {
            let host =
                stopped().with(Request::Unit { name: "iggy.service".to_owned() }, Data::Unit(unit.clone()));
            first(owned(host, "/etc/ssl/private/k.pem", Kind::File, uid, mode)).1
        };
        assert_eq!(
            with_key(0, 0o600),
            "the TLS key /etc/ssl/private/k.pem cannot be read by iggy (owner 0:0, mode 0600): the server cannot start"
        );
        assert!(with_key(110, 0o640).starts_with("iggy.service is enabled"), "it is in the group ssl-cert");
    }

    #[test]
    fn a_server_on_an_empty_directory_with_its_data_beside_it_fails() {
        let host = link(running(70), "/proc/70/fd/5", "/opt/new/local_data/logs/iggy-server.log");
        let host = directory(host, "/opt/new/local_data/streams");
        let mut finding = Finding::new("");
        let with_old = directory(host.clone(), "/var/lib/iggy/streams");
        let with_old = directory(
            directory(with_old, "/var/lib/iggy/streams/0/topics"),
            "/var/lib/iggy/streams/1/topics",
        );
        judge_running(&with_old.clone().host(), &mut finding);
        assert_eq!(
            finding.problems[0].text,
            "the server runs on /opt/new/local_data, which holds no stream, and /var/lib/iggy holds 2 streams: it was started from another directory or with another configuration than before"
        );
        for fine in [host, directory(with_old, "/opt/new/local_data/streams/0/topics")] {
            let mut finding = Finding::new("");
            judge_running(&fine.host(), &mut finding);
            assert_eq!(finding.problems, []);
        }
    }
}
