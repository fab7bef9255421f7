//! `warden supervisor --check-config`: what is wrong with the configuration, all of it, before anything starts by it.

use std::path::Path;

use jiff::Timestamp;

use super::Arguments;
use crate::cli::doctor;
use crate::config::fragments::Fragments;
use crate::doctor::{Finding, fail, pass};
use crate::supervisor::certificate::hidden_from_service;
use crate::supervisor::doctor::of_certificate;
use crate::supervisor::settings::{Database, ObjectStore, Settings};

/// Keys that name a file with a secret.
const SECRETS: [&str; 2] = ["supervisor.database_url_file", "supervisor.s3.secret_access_key_file"];

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let overrides = arguments.overrides(None)?;
    let (settings, problems) = Settings::examine(Fragments::read(&arguments.config), overrides);
    let mut findings = vec![match problems {
        Ok(()) => pass("configuration", understood(&arguments.config, &settings)),
        Err(problems) => {
            fail("configuration", problems, "mend the files; the Supervisor does not start before")
        }
    }];
    let certificate = of_certificate(&settings, Timestamp::now().as_second());
    // An open way is among the problems already.
    if settings.exposure().is_none() {
        findings.push(certificate);
    }
    findings.extend(hidden(&arguments.config));
    doctor::tell(&findings)
}

/// What whoever checks can read, and the service cannot.
fn hidden(folder: &Path) -> Option<Finding> {
    let said = Fragments::read(folder).values(&["supervisor"]);
    let told: Vec<String> =
        SECRETS.iter().filter_map(|key| hidden_from_service(Path::new(said.text(key)?))).collect();
    let advice = "chown root:warden-supervisor and chmod 640 it";
    (!told.is_empty()).then(|| fail("secrets", told.join("\n"), advice))
}

fn understood(folder: &Path, settings: &Settings) -> String {
    let state = match &settings.database {
        Database::Sqlite { directory } => format!("SQLite in {}", directory.display()),
        Database::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    let archives = match &settings.objects {
        ObjectStore::Folder(folder) => folder.display().to_string(),
        ObjectStore::S3(s3) => format!("bucket {} at {}", s3.bucket, s3.endpoint),
    };
    format!(
        "{} is understood: it listens on {}, its state is in {state}, archives in {archives}",
        folder.display(),
        settings.listen
    )
}
