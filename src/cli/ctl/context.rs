//! Which Supervisor, which key, which deployment: options, else the environment, else a profile.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;
use warden_client::{self as client, Answer, Ca, Client, Failure};
use warden_host::quantity;

use super::pagination::Page;
use super::profile::{self, Profile};
use super::progress::Screen;
use super::reference::Reference;
use super::table::Look;
use crate::agent::{self, Endpoint, Identity};
use crate::cli::output_file;
use crate::cli::terminal::{Painter, harmless};
use crate::config::fragments;
use crate::secret::Secret;

/// A wait shorter than this is not worth a line.
const WORTH_SAYING: Duration = Duration::from_secs(2);
/// Where the key itself may stand.
const KEY_VARIABLE: &str = "WARDEN_API_KEY";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// Profile to use [default: the one that `profile use` chose]
    #[arg(long, global = true, value_name = "NAME", env = "WARDEN_PROFILE", hide_env_values = true)]
    pub profile: Option<String>,

    /// URL of the Supervisor
    #[arg(long, global = true, value_name = "URL", env = "WARDEN_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// The only CA to trust, as PEM [default: the one the agent of this host believes, if it is of this Supervisor and
    /// may be read; else those this host trusts]
    #[arg(long, global = true, value_name = "FILE", env = "WARDEN_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,

    /// File with the API key, its owner's alone; goes before WARDEN_API_KEY
    #[arg(long, global = true, value_name = "FILE", env = "WARDEN_API_KEY_FILE", hide_env_values = true)]
    pub key_file: Option<PathBuf>,

    /// Deployment, by name or id [default: the profile's, else the only one there is]
    #[arg(long, global = true, value_name = "NAME|ID", env = "WARDEN_DEPLOYMENT", hide_env_values = true)]
    pub deployment: Option<Reference>,

    /// Print as JSON, as the Supervisor sends it, with ids as strings
    #[arg(long, global = true)]
    pub json: bool,
}

/// One Supervisor that can be asked.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub screen: Screen,
    pub json: bool,
    pub look: Look,
    deployment: Option<Reference>,
}

impl Access {
    /// # Errors
    /// No Supervisor or no key is known, or one of them is not fit to be used.
    pub fn session(&self) -> anyhow::Result<Session> {
        let profile = profile::chosen(self.profile.as_deref())?;
        let Profile { url, ca, key_file, deployment } = profile.unwrap_or_default();
        let url = self.url.as_ref().or(url.as_ref()).context(
            "no Supervisor is known; give --url, WARDEN_URL, or a profile: warden ctl profile set NAME --url URL",
        )?;
        let url = client::base(url)?;
        let key = key(self.key_file.as_deref(), std::env::var(KEY_VARIABLE).ok(), key_file.as_deref())?;
        let ca = self.ca.clone().or(ca).map(Ca::File).or_else(|| of_the_agent(&url));
        let screen = Screen::stderr();
        let said = screen.clone();
        let on_retry = move |failure: &Failure, pause: Duration| {
            if pause >= WORTH_SAYING {
                let seconds = quantity::duration(pause.as_secs_f64());
                said.say(&format!("{failure}; trying again in {seconds}"));
            }
        };
        let client = Client::new(url, &key, ca, Box::new(on_retry))?;
        let paint = if self.json { Painter::plain() } else { Painter::stdout() };
        let look = Look { paint, width: width(), now: Timestamp::now() };
        Ok(Session {
            client,
            screen,
            json: self.json,
            look,
            deployment: self.deployment.clone().or(deployment),
        })
    }
}

impl Session {
    /// The deployment that is spoken of, as it stands in paths.
    ///
    /// # Errors
    /// None was named, and there is not exactly one.
    pub async fn deployment(&self) -> anyhow::Result<String> {
        if let Some(reference) = &self.deployment {
            return Ok(self.deployment_id(reference).await?.to_string());
        }
        let page = Page::read(self.client.get(&["deployments"], &[]).await?);
        match page.items.as_slice() {
            [only] => only.get("id").map(Value::to_string).context("the Supervisor names no id"),
            [] => bail!("this key sees no deployment; make one: warden ctl deployments create NAME"),
            _ => bail!(
                "there are {} deployments; choose one by --deployment NAME, WARDEN_DEPLOYMENT or the profile: {}",
                page.total,
                page.items.iter().map(named).collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

impl Session {
    /// Tells what was made: its id alone, so that a shell can take it.
    pub fn created(&self, answer: &Answer, header: &str) -> anyhow::Result<u8> {
        let id = answer.created(header).context("it was made, and the Supervisor names no id")?;
        let body =
            if answer.body.is_null() { json!({ "id": id.parse::<u64>().ok() }) } else { answer.body.clone() };
        self.print(&body, || format!("{}\n", harmless(&id)))
    }

    /// Tells what was done where the Supervisor has nothing to add.
    pub fn done(&self, what: &str) -> anyhow::Result<u8> {
        self.print(&json!({ "done": what }), || format!("{what}\n"))
    }

    /// Shows a secret the only time it can be seen: alone on stdout, or not at all but in a file.
    pub fn secret(&self, mut body: Value, field: &str, into: Option<&Path>) -> anyhow::Result<u8> {
        let secret = body.get(field).and_then(Value::as_str).map(|text| Secret::new(text.to_owned()));
        // A replay of an answer that was lost has no secret any more.
        let secret = secret.with_context(|| {
            let id = body.get("id").map(Value::to_string).unwrap_or_default();
            format!("{id} was made, and its {field} was lost on the way: make another one")
        })?;
        let Some(path) = into else {
            self.screen.say("shown only this once");
            return self.print(&body, || format!("{}\n", harmless(secret.expose())));
        };
        output_file::write_for(path, format!("{}\n", secret.expose()).as_bytes(), "--into")?;
        if let Some(entries) = body.as_object_mut() {
            entries.remove(field);
        }
        self.print(&body, || format!("written to {}\n", harmless(&path.display().to_string())))
    }
}

/// What proves that Supervisor to the agent of this host, where whoever runs this may read it.
fn of_the_agent(url: &Url) -> Option<Ca> {
    let settings = agent::Settings::load(Path::new(fragments::FOLDER)).ok()?;
    let identity = Identity::read(&settings.state_directory, None).ok()??;
    let Endpoint { secure, host, port, .. } = settings.supervisor.as_ref().unwrap_or(&identity.supervisor);
    let called = url.host_str()?.trim_matches(['[', ']']);
    if !secure || url.scheme() != "https" || called != host || url.port_or_known_default() != Some(*port) {
        return None;
    }
    settings.ca_file.clone().map(Ca::File).or(identity.ca.map(Ca::Pem))
}

fn named(deployment: &Value) -> String {
    let id = deployment.get("id").map(Value::to_string).unwrap_or_default();
    format!("{id} {}", deployment.get("name").and_then(Value::as_str).unwrap_or_default())
}

/// Said most directly wins: the option, the environment, the profile.
fn key(option: Option<&Path>, variable: Option<String>, profile: Option<&Path>) -> anyhow::Result<Secret> {
    let variable = variable.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match (option, variable, profile) {
        (Some(path), ..) => profile::read_key(path),
        (None, Some(text), _) => Ok(Secret::new(text)),
        (None, None, Some(path)) => profile::read_key(path),
        (None, None, None) => {
            bail!("no API key is known; set {KEY_VARIABLE}, or name a file by --key-file or in the profile")
        }
    }
}

/// Columns of the terminal that is written to; none where it is no terminal.
fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(&stdout).ok()?.ws_col;
    (told > 0).then_some(usize::from(told))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_said_most_directly_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{name}-key\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (option, profile) = (file("option"), file("profile"));
        let variable = || Some("variable-key".to_owned());
        let taken = |option, variable, profile| key(option, variable, profile).unwrap().expose().to_owned();
        assert_eq!(taken(Some(&*option), variable(), Some(&*profile)), "option-key");
        assert_eq!(taken(None, variable(), Some(&*profile)), "variable-key");
        assert_eq!(taken(None, Some(" ".to_owned()), Some(&*profile)), "profile-key");
        assert!(key(None, None, None).unwrap_err().to_string().starts_with("no API key is known; "));
    }
}
