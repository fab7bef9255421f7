//! Profiles: a word for a Supervisor.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::scripted::{Reply, Scripted};
use super::{ctl, told};

#[test]
fn a_profile_stands_for_url_key_and_deployment() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, _| Reply::Json(200, json!({"items": [], "total_results": 0})));
    let arguments = ["profile", "set", "lab", "--url", &server.url, "--deployment", "42", "--key-stdin"];
    let mut child =
        ctl(home.path(), &arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"wk_piped\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let key_file = home.path().join(".config/warden/lab.key");
    let lab = format!(
        "lab  (in use)\n  url         {}\n  key file    {}\n  deployment  42\n",
        server.url,
        key_file.display()
    );
    assert_eq!(told(&output), (Some(0), &*lab, ""));

    let output = ctl(home.path(), &["nodes", "list"]).output().unwrap();
    assert_eq!(told(&output), (Some(0), "no nodes\n", ""));
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "GET /deployments/42/nodes?page=1&results=20");
    assert_eq!(asked.header("ld-api-key"), Some("wk_piped"));

    ctl(home.path(), &["profile", "set", "other", "--url", "https://other.example.com"]).output().unwrap();
    let output = ctl(home.path(), &["profile", "use", "other", "--json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["current"], &told["profiles"]["lab"]["deployment"]), (&json!("other"), &json!(42)));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("wk_piped"));
}

#[test]
fn what_a_profile_cannot_be_is_said_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            &["set", "a", "--url", "http://warden.example.com"][..],
            "`http://warden.example.com` would show the API key to the network; use https, or a tunnel that ends on \
             this host",
        ),
        (&["set", "a.b", "--url", "https://x"], "a profile's name has letters, digits, `-` and `_`"),
        (&["set", "a"], "a new profile needs --url"),
        (&["use", "a"], "there is no profile `a`; make one: warden ctl profile set NAME --url URL"),
    ] {
        let output = ctl(home.path(), &[&["profile"], arguments].concat()).output().unwrap();
        assert_eq!(told(&output), (Some(2), "", &*format!("error: {expected}\n")));
    }
    assert!(!home.path().join(".config").exists());
}
