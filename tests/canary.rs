//! Secrets planted on this host, where Iggy keeps them, are nowhere in the finished archive.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine;

/// Where it stands, and the made-up secret: each is told apart, so that a leak names its place.
const CANARIES: [(&str, &str); 10] = [
    ("environment", "canary-Env1-9f3kQz7Lw2"),
    ("argument", "canary-Arg2-X81mPq0Vt5"),
    ("configuration", "canary-Cfg3-77hTzR4bNe"),
    ("encryption key", "canaryKey4bGVhcGZyb2dzd2ltbWluZ3Bvb2w="),
    ("generated password", "canary-Log5-Zk20sWqP8d"),
    ("url", "canary-Url6-0pLmN3xYzA"),
    ("private key", "MIICANARY7nOtArEaLkEyBuTlOnGeNoUgHtOlOoKlIkEoNe0123456789abcdef"),
    ("token", "canary-Tok8-q9W8e7R6t5"),
    ("plugin", "canary-Plg9-4v5B6n7M8k"),
    ("dotenv", "canary-Dot10-1a2S3d4F5g"),
];

fn canary(place: &str) -> &'static str {
    CANARIES.iter().find(|(name, _)| *name == place).unwrap().1
}

/// Files that look like those of a running Iggy, with secrets everywhere.
fn plant(folder: &Path) {
    let write = |path: &str, text: String| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "config.toml",
        format!(
            "[system]\npath = \"data\"\n[cluster.auth]\nshared_secret = \"{}\"\n",
            canary("configuration")
        ),
    );
    write(".env", format!("IGGY_ROOT_PASSWORD={}\n", canary("dotenv")));
    write(
        "data/runtime/current_config.toml",
        format!(
            "[system]\npath = \"data\"\n[system.encryption]\nenabled = true\nkey = \"{}\"\n[telemetry.logs]\nendpoint = \"http://otel:{}@127.0.0.1:4317\"\n",
            canary("encryption key"),
            canary("url")
        ),
    );
    let log = [
        format!(
            "WARN  main server::bootstrap: Generated root user password: {}",
            canary("generated password")
        ),
        format!(
            "INFO  main configs: sink connection_string = \"postgresql://user:{}@localhost/db\"",
            canary("url")
        ),
        format!("INFO  main http: Authorization: Bearer {}", canary("token")),
        format!(
            "ERROR main tls: -----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
            canary("private key")
        ),
        format!(
            "INFO  main plugin: {{\"plugin_config\":{{\"secret_access_key\":\"{}\"}}}}",
            canary("plugin")
        ),
    ];
    let stamped: Vec<String> =
        log.iter().map(|line| format!("2026-11-21T10:30:53.843359Z  {line}")).collect();
    write("data/logs/iggy-server.log", stamped.join("\n") + "\n");
    // The name of a process is the name of its program.
    let program = folder.join("iggy-server");
    std::fs::copy("/bin/bash", &program).unwrap();
}

/// Starts the server and diagnoses, in a process namespace of their own: there is no other Iggy to be found.
const SCRIPT: &str = r#"
env -i PATH=/usr/bin:/bin IGGY_CONFIG_PATH=config.toml IGGY_SYSTEM_PATH=data "IGGY_ROOT_PASSWORD=$1" \
    "IGGY_CONNECTORS_SINK_PG_PLUGIN_CONFIG_URI=$2" \
    ./iggy-server -c 'exec 3>>data/logs/iggy-server.log; while :; do read -t 60 <> <(:); done' iggy-server \
    --password "$3" "--token=$4" </dev/null >/dev/null 2>&1 &
echo "pid $!"
sleep 0.3
exec "$5" snapshot --fail-on=never -o out.zip
"#;

fn diagnose(folder: &Path) -> Output {
    Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", SCRIPT, "canary"])
        .args([canary("environment"), canary("plugin"), canary("argument"), canary("token")])
        .arg(env!("CARGO_BIN_EXE_warden"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn no_planted_secret_is_in_the_finished_archive() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    let output = diagnose(folder.path());
    assert!(output.status.success(), "this test needs root: {}", String::from_utf8_lossy(&output.stderr));

    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(folder.path().join("out.zip")).unwrap()).unwrap();
    let mut everything = String::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let content = String::from_utf8_lossy(&content).into_owned();
        for (place, secret) in CANARIES {
            let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
            for form in [secret, encoded.trim_end_matches('=')] {
                assert!(!name.contains(form), "the secret of the {place} is in the name {name}");
                assert!(!content.contains(form), "the secret of the {place} is in {name}");
            }
        }
        everything.push_str(&content);
    }
    for printed in [&output.stdout, &output.stderr] {
        let printed = String::from_utf8_lossy(printed);
        assert!(!CANARIES.iter().any(|(_, secret)| printed.contains(secret)));
    }
    // The places themselves were read: it is the mask that kept the secrets, not blindness.
    let printed = String::from_utf8_lossy(&output.stdout);
    let pid = printed.lines().find_map(|line| line.strip_prefix("pid ")).unwrap();
    for evidence in [
        "Generated root user password: [secret:",
        "IGGY_ROOT_PASSWORD=[secret:",
        &format!("\"what\": \"/proc/{pid}/environ\""),
    ] {
        assert!(everything.contains(evidence), "nothing was read of: {evidence}");
    }
}
