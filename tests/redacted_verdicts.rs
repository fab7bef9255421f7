//! Masking changes no verdict: every check says the same of a host as it is and of what the redactor leaves of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use warden::redact::{AlsoMask, Redactor};
use warden::snapshot::host::{Recording, open};
use warden::snapshot::report::Outcome;
use warden_checks::CHECKS;
use warden_host::{Answer, Data, Host, LogLine, Request, Source, Verdict};

use crate::hosts::all;
use crate::support::changed_host::ChangedHost;

/// Made up, and nowhere else.
const SECRET: &str = "Pl4nted-9fQ2xT7vZk";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgP4x9mQ2sT7vYb1Zk\n\
    -----END PRIVATE KEY-----\n";
/// Settings that checks judge by, where the environment sets them.
const SETTINGS: &str = "IGGY_LOGGING_LEVEL=trace\0IGGY_DATA_MAINTENANCE_MESSAGES_CLEANER_ENABLED=false\0\
    IGGY_QUIC_ADDRESS=0.0.0.0:8080\0IGGY_HTTP_TLS_ENABLED=true\0IGGY_HTTP_TLS_CERT_FILE=/etc/iggy/tls/node-1.pem\0";
/// The one thing that is judged by the masks themselves: a check never sees a secret, only that there was one.
const BY_THE_MASK: &str = "holds secrets";

/// The outcome of each check, with the severity of each of its problems.
fn verdicts(source: Arc<dyn Source>) -> Vec<(&'static str, Option<Verdict>, Vec<Verdict>)> {
    let deadline = Instant::now() + Duration::from_secs(600);
    let judged = CHECKS.iter().map(|check| {
        let host = Host::new(Arc::clone(&source), deadline);
        let finding = (check.run)(&host).ok();
        let problems = finding.iter().flat_map(|finding| &finding.problems);
        let severities: Vec<Verdict> = problems
            .filter(|problem| !problem.text.contains(BY_THE_MASK))
            .map(|problem| problem.severity)
            .collect();
        let worst = severities.iter().max().copied();
        let verdict = finding
            .map(|finding| worst.unwrap_or(if finding.skipped { Verdict::Skip } else { Verdict::Pass }));
        (check.id, verdict, severities)
    });
    judged.collect()
}

fn differences(host: &str, raw: &Arc<dyn Source>) -> Vec<String> {
    differences_by(Redactor::new([7; 32]), host, raw)
}

fn differences_by(redactor: Redactor, host: &str, raw: &Arc<dyn Source>) -> Vec<String> {
    let redactor = Arc::new(redactor);
    let masked: Arc<dyn Source> = Arc::new(Recording::replay(Arc::clone(raw), redactor));
    let pairs = verdicts(Arc::clone(raw)).into_iter().zip(verdicts(masked));
    pairs
        .filter(|(raw, masked)| raw != masked)
        .map(|(raw, masked)| format!("{host}: {raw:?}, masked {masked:?}"))
        .collect()
}

#[test]
fn every_check_judges_a_recorded_host_alike_before_and_after_the_redactor() {
    let mut found = Vec::new();
    for (name, path) in all() {
        let raw: Arc<dyn Source> = Arc::new(open(&path).unwrap().0);
        found.extend(differences(&name, &raw));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_mask_that_changes_a_verdict_is_noticed() {
    let too_much = AlsoMask::new(&["MemTotal".to_owned()]).unwrap();
    let redactor = Redactor::new([7; 32]).also_masking(too_much);
    let raw: Arc<dyn Source> = Arc::new(open(&all()["healthy-debian"]).unwrap().0);
    let found = differences_by(redactor, "healthy-debian", &raw);
    assert!(found.iter().any(|difference| difference.contains("memory-usage")), "{found:?}");
}

#[test]
fn every_check_judges_alike_what_secrets_were_planted_in() {
    let mut found = Vec::new();
    for (name, path) in all() {
        let raw: Arc<dyn Source> = Arc::new(Planted(open(&path).unwrap().0));
        found.extend(differences(&name, &raw));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_secrets_are_planted_where_checks_look() {
    let planted = Planted(open(&all()["healthy-debian"]).unwrap().0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let file = |path: &str| Request::File { path: path.to_owned() };
    let asked = [
        file("/proc/812/environ"),
        file("/etc/iggy/tls/node-1.pem"),
        file("/var/lib/iggy/runtime/current_config.toml"),
        Request::Unit { name: "iggy.service".to_owned() },
        Request::Journal { unit: "iggy.service".to_owned() },
    ];
    for request in asked {
        let answer = planted.answer(&request, deadline);
        let text = serde_json::to_string(answer.as_ref().as_ref().unwrap()).unwrap();
        assert!(text.contains(SECRET) || text.contains("PRIVATE KEY"), "{request}");
    }
}

/// A host in whose files, answers and logs stand secrets beside what they say.
#[derive(Debug)]
struct Planted<S>(S);

impl<S: Source> Source for Planted<S> {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        let answer = self.0.answer(request, deadline);
        let Ok(data) = answer.as_ref() else { return answer };
        let path = match request {
            Request::File { path } | Request::Tail { path } => path.as_str(),
            _ => "",
        };
        let mut data = data.clone();
        match &mut data {
            Data::Text(content) => content.text = in_file(path, &content.text),
            Data::Files { files, .. } => {
                files.iter_mut().for_each(|file| file.text = in_file(&file.path, &file.text))
            }
            Data::Http(answer) => answer.body = in_json(&answer.body),
            Data::Unit(unit) => {
                let secret = json!(format!("PGPASSWORD={SECRET}"));
                match unit.properties.get_mut("Environment").and_then(Value::as_array_mut) {
                    Some(variables) => variables.push(secret),
                    None => _ = unit.properties.insert("Environment".to_owned(), json!([secret])),
                }
            }
            Data::Log(log) => log.lines.iter_mut().for_each(in_line),
            Data::Output(output) => output.stderr.push_str(&format!("warning: password={SECRET}\n")),
            _ => {}
        }
        Arc::new(Ok(data))
    }
}

fn in_file(path: &str, text: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        "environ" => format!("PGPASSWORD={SECRET}\0{text}{SETTINGS}AWS_SECRET_ACCESS_KEY={SECRET}\0"),
        "cmdline" if !text.is_empty() => format!("{text}--password\0{SECRET}\0"),
        _ if name.ends_with(".toml") => {
            format!(
                "# password: {SECRET}\n{text}\n[planted.by_test]\npassword = \"{SECRET}\"\nurl = \"postgres://iggy:{SECRET}@db/x\"\n"
            )
        }
        _ if name.ends_with(".json") => in_json(text),
        _ if [".pem", ".crt", ".cer", ".cert"].iter().any(|end| name.ends_with(end)) => {
            format!("# password: {SECRET}\n{KEY}{text}\n{KEY}")
        }
        _ if name.ends_with(".log") => {
            text.lines().map(|line| format!("{line} password={SECRET}\n")).collect()
        }
        _ => text.to_owned(),
    }
}

fn in_json(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("planted_password".to_owned(), json!(SECRET));
            Value::Object(fields).to_string()
        }
        _ => text.to_owned(),
    }
}

fn in_line(line: &mut LogLine) {
    line.text = format!("{} password={SECRET}", line.text);
}

#[test]
fn what_stands_around_a_certificate_does_not_make_it_unusable() {
    let path = all()["healthy-debian"].join("etc/iggy/tls/node-1.pem");
    let chain = std::fs::read_to_string(path).unwrap();
    let around = [
        "Bag Attributes\n    friendlyName: iggy\n    localKeyID: 54 69 6D 65 20 31\nKey Attributes: <No Attributes>\n",
        "password:\n",
        "secret_access_key=\n",
        "tls.key: |\n",
        "Public Key Algorithm: id-ecPublicKey\n    pub:\n        04:6a:bf:7c:8a:c3:84:e2:a3:19:03:f1\n",
        KEY,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkqhkiG9w0BBQwwHAQI\n-----END ENCRYPTED PRIVATE KEY-----\n",
    ];
    for text in around {
        for pem in [
            format!("{text}{chain}"),
            format!("{chain}{text}"),
            format!("{text}{chain}").replace('\n', "\r\n"),
        ] {
            let judged = ChangedHost::of("healthy-debian")
                .file("/etc/iggy/tls/node-1.pem", &pem)
                .judge("certificates-files");
            assert_eq!(judged.outcome, Outcome::Pass, "{pem}: {}", judged.summary);
        }
    }
}
