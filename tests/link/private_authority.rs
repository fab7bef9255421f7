//! A Supervisor with an authority of its own: known by a fingerprint, and told in words when something about TLS is wrong.

use std::process::Stdio;

use tokio::process::Command;
use warden::agent::Settings;
use warden::tls::Fingerprint;

use super::enrolment::Host;
use super::site::Site;
use crate::supervisor::Backend;
use crate::support::pki::{Authority, Certified, Front};

fn fingerprint(pem: &str) -> String {
    warden::tls::fingerprints(pem).first().map(Fingerprint::to_string).unwrap()
}

/// With the authority behind it, as `init-tls` writes it.
fn with_authority(mut certified: Certified, authority: &Authority) -> Certified {
    certified.certificate += &authority.pem();
    certified
}

/// What `warden ctl` says of a Supervisor there, with no key that matters.
async fn ctl(url: &str, ca: Option<&str>) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.args(["ctl", "nodes", "list", "--url", url]).env_clear().env("HOME", home.path());
    command.env("WARDEN_API_KEY", "wk_1_none").stdin(Stdio::null());
    if let Some(pem) = ca {
        let file = home.path().join("ca.pem");
        std::fs::write(&file, pem).unwrap();
        command.arg("--ca").arg(&file);
    }
    let output = command.output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_alone_proves_the_supervisor_at_enrolment_and_from_then_on() {
    let site = Site::start(Backend::sqlite()).await;
    let ours = Authority::new("ours");
    let served = with_authority(ours.server("localhost"), &ours);
    let front = Front::before(site.address, &served, None).await;
    let url = format!("https://localhost:{}", front.address.port());
    let (host, token) = (Host::new(), site.token().await);
    let right = fingerprint(&ours.pem());
    let said = host.enroll(&url, &token, &["--ca-fingerprint", &right.to_uppercase()]).await;
    assert_eq!(said.code, 0, "{}", said.error);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["authorities"], serde_json::json!([right]));
    let identity = host.identity().unwrap();
    assert_eq!(fingerprint(identity.ca.as_deref().unwrap()), right, "the authority alone is kept");
    let agent = host.agent();
    site.linked(identity.node).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_fingerprint_nothing_is_sent() {
    let site = Site::start(Backend::sqlite()).await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("ours"));
    let served = with_authority(ours.server("localhost"), &ours);
    let leaf = fingerprint(&served.certificate);
    let front = Front::before(site.address, &served, None).await;
    let alone = Front::before(site.address, &ours.server("localhost"), None).await;
    let other_name = with_authority(ours.server("other.example"), &ours);
    let misnamed = Front::before(site.address, &other_name, None).await;
    let at = |front: &Front| format!("https://localhost:{}", front.address.port());
    let (host, token) = (Host::new(), site.token().await);
    let right = fingerprint(&ours.pem());
    for (front, given, told) in [
        (&front, fingerprint(&theirs.pem()), "it shows no certificate with the fingerprint "),
        (&front, leaf, "the fingerprint is that of its own certificate, which an authority signed: "),
        (&alone, right.clone(), "it shows its own certificate alone: put the authority's behind it"),
        (&misnamed, right.clone(), "its certificate is for other.example, not for localhost: "),
    ] {
        let said = host.enroll(&at(front), &token, &["--ca-fingerprint", &given]).await;
        assert_eq!(said.code, 2);
        assert!(said.error.contains("cannot prove that it is localhost: "), "{}", said.error);
        assert!(said.error.contains(told), "{}", said.error);
    }
    let said = host.enroll(&at(&front), &token, &["--ca-fingerprint", "0f0f"]).await;
    assert!(said.code == 2 && said.error.contains("expected 64 hexadecimal digits"), "{}", said.error);
    let plain = format!("http://{}", site.address);
    let said = host.enroll(&plain, &token, &["--ca-fingerprint", &right]).await;
    assert!(said.error.contains("a fingerprint proves nothing over http://: use https://"), "{}", said.error);
    // Nor does a profile of ctl learn another authority than the one that was told.
    let profile = async |given: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.args(["ctl", "profile", "set", "prod", "--url", &at(&front), "--ca-fingerprint", given]);
        command.env_clear().env("HOME", host.folder()).stdin(Stdio::null());
        let output = command.output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = profile(&fingerprint(&theirs.pem())).await;
    assert!(code == 2 && error.contains("it shows no certificate with the fingerprint "), "{error}");
    assert!(!host.folder().join(".config/warden/prod.ca.pem").exists());
    assert_eq!(profile(&right).await, (0, String::new()));
    let learnt = std::fs::read_to_string(host.folder().join(".config/warden/prod.ca.pem")).unwrap();
    assert_eq!(fingerprint(&learnt), right);
    // The token was shown to none of them.
    let said = host.enroll(&at(&front), &token, &["--ca-fingerprint", &right]).await;
    assert_eq!(said.code, 0, "{}", said.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_held_against_the_fingerprint_that_was_told() {
    let site = Site::start(Backend::sqlite()).await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    // Without the authority behind it: then the file must bring it.
    let front = Front::before(site.address, &ours.server("localhost"), None).await;
    let url = format!("https://localhost:{}", front.address.port());
    let (host, token) = (Host::new(), site.token().await);
    let both = host.file("both.pem", &(theirs.pem() + &ours.pem()));
    let wrong = host.file("theirs.pem", &theirs.pem());
    let right = fingerprint(&ours.pem());
    let with = |file: &std::path::Path| ["--ca-file".to_owned(), file.to_str().unwrap().to_owned()];
    let [option, file] = with(&wrong);
    let said = host.enroll(&url, &token, &[&option, &file, "--ca-fingerprint", &right]).await;
    assert_eq!(said.code, 2);
    assert!(said.error.contains("holds no certificate with the fingerprint "), "{}", said.error);
    let [option, file] = with(&both);
    let said = host.enroll(&url, &token, &[&option, &file, "--ca-fingerprint", &right]).await;
    assert_eq!(said.code, 0, "{}", said.error);
    assert_eq!(warden::tls::fingerprints(&host.identity().unwrap().ca.unwrap()).len(), 1);
    // An agent.ca_file goes before what was given at enrolment: one that does not hold it is told of before.
    let mut settings = Settings::load(host.folder()).unwrap();
    settings.ca_file = Some(wrong);
    let authorities = warden::agent::Authorities::Fingerprint(right.parse().unwrap());
    let refused = warden::agent::enrol(&settings, &url.parse().unwrap(), authorities, &token).await;
    let told = format!("{:#}", refused.unwrap_err());
    assert!(told.contains("theirs.pem holds no certificate with the fingerprint "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_about_tls_is_told_in_words_with_what_to_do() {
    let site = Site::start(Backend::sqlite()).await;
    let (ours, day) = (Authority::new("ours"), 86_400);
    let (wrong, as_server) = Authority::authority_as_server("localhost");
    let pem = ours.pem();
    let at = |front: &Front| format!("https://localhost:{}", front.address.port());
    let cases = [
        (
            ours.server("localhost"),
            None,
            "its certificate is signed by no authority that is trusted here: name its authority ",
        ),
        (
            ours.server("other.example"),
            Some(&pem),
            "its certificate is for other.example, not for localhost: call it by one of these, or have a certificate made \
             that names localhost",
        ),
        (ours.server_between("localhost", -9 * day, -day), Some(&pem), "its certificate ran out at "),
        (ours.server_between("localhost", day, 9 * day), Some(&pem), "its certificate is not valid before "),
        (
            as_server,
            Some(&wrong.pem()),
            "it shows the certificate of an authority (CA:TRUE) as its own, which no client accepts: ",
        ),
        (ours.client("localhost"), Some(&pem), "its certificate "),
    ];
    let (host, token) = (Host::new(), site.token().await);
    for (certified, ca, told) in &cases {
        let front = Front::before(site.address, certified, None).await;
        let file = ca.map(|pem| host.file("ca.pem", pem));
        let more: Vec<&str> = file.iter().flat_map(|file| ["--ca-file", file.to_str().unwrap()]).collect();
        let said = host.enroll(&at(&front), &token, &more).await;
        assert_eq!(said.code, 2);
        let begin =
            format!("error: cannot enrol at {}: cannot prove that it is localhost: {told}", at(&front));
        assert!(said.error.starts_with(&begin), "{}", said.error);
        let (code, error) = ctl(&at(&front), ca.map(String::as_str)).await;
        let begin = format!("error: cannot reach {}: {told}", at(&front));
        assert!(code == 2 && error.starts_with(&begin), "{error}");
        for text in [&said.error, &error] {
            for debug in
                ["InvalidCertificate", "CertificateError", "UnixTime", "DnsName", "Context", "(UNIX)"]
            {
                assert!(!text.contains(debug), "{text}");
            }
        }
    }
    // https to what speaks http, and http to what speaks https.
    let plain = format!("https://localhost:{}", site.address.port());
    let said = host.enroll(&plain, &token, &[]).await;
    let no_tls = "what answers there does not speak TLS: a Supervisor without a certificate speaks http";
    assert!(said.code == 2 && said.error.contains(no_tls), "{}", said.error);
    let (code, error) = ctl(&plain, None).await;
    assert!(code == 2 && error.contains(no_tls), "{error}");

    let front = Front::before(site.address, &ours.server("localhost"), None).await;
    let cleartext = format!("http://localhost:{}", front.address.port());
    let said = host.enroll(&cleartext, &token, &[]).await;
    let https = "a Supervisor with a certificate speaks https: use https:// and a name of its certificate";
    assert!(said.code == 2 && said.error.contains(https), "{}", said.error);
    let (code, error) = ctl(&cleartext, None).await;
    assert!(
        code == 2 && error.contains("it does not speak http, and one with a certificate speaks https"),
        "{error}"
    );
}
