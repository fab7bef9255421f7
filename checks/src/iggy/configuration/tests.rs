//! Configurations of Iggy as they are read.

use warden_host::Recorded;

use super::super::tests::{directory, link, running};
use super::*;

const CURRENT: &str = "[system]\npath = \"/d\"\n[system.encryption]\nenabled = false\n[tcp]\nenabled = true\n\
     address = \"0.0.0.0:9000\"\n[tcp.tls]\nenabled = true\nself_signed = false\ncert_file = \"certs/a.pem\"\n\
     key_file = \"/certs/a.key\"\n[websocket]\nenabled = false\n[http]\naddress = \"[::]:3001\"\n";

fn server() -> Recorded {
    let recorded = link(running(70), "/proc/70/cwd", "/srv/iggy");
    let recorded = link(recorded, "/proc/70/fd/5", "/d/logs/iggy-server.log");
    directory(recorded, "/d/streams")
}

fn of(recorded: Recorded) -> Configuration {
    configuration(&recorded.host(), Runtime::Iggy).unwrap()
}

#[test]
fn listeners_follow_environment_then_current_configuration_then_defaults() {
    let recorded = server()
        .file("/d/runtime/current_config.toml", CURRENT)
        .file("/proc/70/environ", "IGGY_QUIC_ADDRESS=10.0.0.1:7\0IGGY_HTTP_TLS_ENABLED=true\0");
    let listeners = listeners(&recorded.host());
    let shown: Vec<_> = listeners.iter().map(|one| (one.name, one.address(), one.udp, one.tls)).collect();
    let expected = [
        ("tcp", "127.0.0.1:9000".to_owned(), false, true),
        ("http", "[::1]:3001".to_owned(), false, true),
        ("quic", "10.0.0.1:7".to_owned(), true, true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(listeners[0].certificate.as_deref(), Some("/srv/iggy/certs/a.pem"));
    assert_eq!(listeners[0].key.as_deref(), Some("/certs/a.key"));
    assert_eq!(listeners[1].certificate.as_deref(), Some("/srv/iggy/core/certs/iggy_cert.pem"));
    assert_eq!((listeners[2].certificate.as_deref(), listeners[0].is_wildcard()), (None, true));
}

#[test]
fn paths_of_a_server_in_a_container_go_through_its_process() {
    let recorded = link(running(70), "/proc/70/cwd", "/app");
    let inside = "/proc/70/root/app/local_data";
    let recorded = directory(recorded, &format!("{inside}/streams"))
        .file(&format!("{inside}/runtime/current_config.toml"), CURRENT);
    assert_eq!(of(recorded).path("tcp.tls.cert_file").as_deref(), Some("/proc/70/root/app/certs/a.pem"));
}

#[test]
fn a_server_without_any_configuration_has_its_defaults_and_no_server_has_no_listeners() {
    let shown: Vec<_> = of(server()).listeners().iter().map(|one| (one.name, one.port)).collect();
    assert_eq!(shown, [("tcp", 8090), ("http", 3000), ("quic", 8080), ("websocket", 8092)]);
    assert_eq!(listeners(&Recorded::complete().host()), []);
}

#[test]
fn keys_that_moved_are_found_in_both_layouts() {
    let old = of(server().file("/d/runtime/current_config.toml", CURRENT));
    let new =
        of(server().file("/d/runtime/current_config.toml", "path = \"/d\"\n[encryption]\nenabled = true\n"));
    assert_eq!(
        (old.text("path").as_deref(), old.text("encryption.enabled").as_deref()),
        (Some("/d"), Some("false"))
    );
    assert_eq!(
        (new.text("path").as_deref(), new.text("encryption.enabled").as_deref()),
        (Some("/d"), Some("true"))
    );
}

#[test]
fn a_file_that_is_missing_broken_or_not_toml_says_so_and_the_rest_still_counts() {
    let with = |path: &str| server().file("/proc/70/environ", &format!("IGGY_CONFIG_PATH={path}\0"));
    let content = |recorded: Recorded| of(recorded).file.unwrap().content.unwrap_err().to_string();
    assert_eq!(
        content(with("/x.toml")),
        "cannot understand /x.toml: the environment names this file, and it does not exist"
    );
    assert_eq!(content(with("/x.toml").denied("/x.toml")), "/x.toml: permission denied");
    assert_eq!(
        content(with("/etc/shadow").file("/etc/shadow", "root:x")),
        "cannot understand /etc/shadow: the name of a configuration file ends in .toml"
    );
    let broken = with("/x.toml").file("/x.toml", "[tcp\n");
    assert!(content(broken.clone()).starts_with("cannot understand /x.toml: "));
    assert_eq!(of(broken).listeners().len(), 4);
}
