//! `warden enroll`: makes this host a node of a deployment.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use zeroize::Zeroizing;

use super::json_ids;
use super::terminal::harmless;
use crate::agent::{self, Authorities, Endpoint, Identity, Settings, credentials_directory};
use crate::config::fragments;
use crate::secret::Secret;
use crate::tls::{self, Fingerprint};

/// The token, where neither a file nor standard input suits.
const VARIABLE: &str = "WARDEN_ENROLMENT_TOKEN";
/// Bytes of a token; ours have some 70.
const TOKEN_LIMIT: u64 = 4096;
/// Bytes of a file of certificates.
const CA_LIMIT: u64 = 256 << 10;

/// This host was enrolled before, and nothing was changed.
const ALREADY: u8 = 1;

/// Make this host a node of a deployment
///
/// Trades an enrolment token for an identity, which the agent then uses.
#[derive(Debug, Args)]
#[command(after_help = "\
The token comes from --token-file, the variable WARDEN_ENROLMENT_TOKEN, or standard input, in this order; never from \
an argument, which everybody on the host could read. An administrator makes one with \
`POST /deployments/ID/enrolments` or `warden ctl`. If it is cut off, run it again with the same token.

The Supervisor is proven by the certificate authorities of this host, by agent.ca_file of the configuration, or by \
those in --ca-file, which are then kept with the identity and the only ones believed. With --ca-fingerprint alone the \
authority is taken from what the Supervisor shows, if it is the one with this fingerprint; otherwise nothing is sent.

Exit status: 0 enrolled, 1 this host was enrolled before and nothing was changed, 2 could not enrol.")]
pub struct Arguments {
    /// The Supervisor, like https://supervisor.example.com; without it, agent.supervisor of the configuration
    supervisor: Option<String>,
    /// A file with the token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authorities, in PEM, that prove the Supervisor
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// SHA-256 fingerprint of the certificate authority that proves the Supervisor, as `warden supervisor init-tls`
    /// prints it
    #[arg(long, value_name = "HEX")]
    ca_fingerprint: Option<Fingerprint>,
    /// Give up the identity this host has
    #[arg(long)]
    replace: bool,
    /// The folder of warden.toml
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    config: PathBuf,
    /// Print the node as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let settings = Settings::load(&arguments.config)?;
    let supervisor = match &arguments.supervisor {
        Some(address) => address.parse::<Endpoint>()?,
        None => settings.supervisor.clone().context("say which Supervisor: `warden enroll https://...`")?,
    };
    if !arguments.replace
        && let Some(known) = Identity::read(&settings.state_directory, credentials_directory().as_deref())?
    {
        tell(arguments, &known, "is already")?;
        return Ok(ALREADY);
    }
    let authorities = match (arguments.ca_file.as_deref(), arguments.ca_fingerprint) {
        (None, None) => Authorities::Usual,
        (None, Some(fingerprint)) => Authorities::Fingerprint(fingerprint),
        (Some(file), None) => Authorities::Pem(certificates(file)?),
        (Some(file), Some(fingerprint)) => Authorities::Pem(tls::authority_in(file, fingerprint)?),
    };
    let token = token(arguments.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let identity = runtime.block_on(agent::enrol(&settings, &supervisor, authorities, &token))?;
    tell(arguments, &identity, "is now")?;
    Ok(0)
}

fn tell(arguments: &Arguments, identity: &Identity, verb: &str) -> anyhow::Result<()> {
    let Identity { node, deployment, supervisor, ca, .. } = identity;
    let believed: Vec<String> =
        tls::fingerprints(ca.as_deref().unwrap_or_default()).iter().map(Fingerprint::to_string).collect();
    let mut out = std::io::stdout();
    if arguments.json {
        let mut told = serde_json::json!({
            "node": node,
            "deployment": deployment,
            "supervisor": supervisor.to_string(),
            "enrolled": verb == "is now",
            "authorities": believed,
        });
        json_ids::as_strings(&mut told);
        writeln!(out, "{told:#}")?;
    } else {
        let supervisor = harmless(&supervisor.to_string());
        writeln!(out, "this host {verb} node {node} of deployment {deployment} at {supervisor}")?;
        if !believed.is_empty() {
            writeln!(out, "which it believes by the authority {} alone", believed.join(", "))?;
        }
    }
    Ok(())
}

fn token(file: Option<&Path>) -> anyhow::Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    match (file, std::env::var(VARIABLE)) {
        (Some(path), _) if path != Path::new("-") => {
            let file = std::fs::File::open(path);
            let read = file.and_then(|file| file.take(TOKEN_LIMIT).read_to_string(&mut text));
            read.with_context(|| format!("cannot read {}", path.display()))?;
        }
        (None, Ok(value)) => *text = value,
        (Some(_), _) | (None, Err(_)) => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                bail!("give the token with --token-file FILE, in {VARIABLE}, or on standard input");
            }
            stdin.take(TOKEN_LIMIT).read_to_string(&mut text).context("cannot read standard input")?;
        }
    }
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_token, "what was given is no enrolment token");
    Ok(Secret::new(token))
}

fn certificates(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(CA_LIMIT).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.contains("-----BEGIN CERTIFICATE-----"), "{} holds no certificate in PEM", path.display());
    Ok(text)
}
