//! `warden supervisor init-tls`: a certificate authority and a certificate, where nobody else gives one.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use warden_host::quantity;

use crate::cli::terminal::harmless;
use crate::config::fragments;
use crate::tls::issue::{self, Files, Made, SERVER_DAYS};

/// Where the Supervisor listens in what is printed.
const PORT: u16 = 7600;

/// Make a certificate authority, and a certificate for the Supervisor
///
/// For where no authority gives one. The authority signs certificates for this Supervisor and nothing else; nodes and
/// `warden ctl` believe it by its file or its fingerprint. What is there is never overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It writes, in the folder:
  supervisor-ca.pem  the authority, for everybody
  supervisor-ca.key  its key, for its owner alone
  supervisor.pem     the certificate, with the authority behind it
  supervisor.key     its key, for root and the group warden-supervisor

Keep a copy of supervisor-ca.key elsewhere: without it every node must be enrolled anew when the certificate runs out. \
With --renew certificate and key are made anew; a Supervisor that runs takes them up within a minute, and no node has to \
be told.

Exit status: 0 when it was made, 2 when it could not be, and then nothing was changed.")]
pub struct Arguments {
    /// Names and addresses by which nodes and people call the Supervisor: warden.example.com, 10.0.0.5
    #[arg(value_name = "NAME", required_unless_present = "renew")]
    names: Vec<String>,

    /// Folder to write to
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    dir: PathBuf,

    /// Make another certificate by the authority that is there, for these names or else for the same as before
    #[arg(long)]
    renew: bool,

    /// How long the certificate is valid, in days
    #[arg(long, value_name = "DAYS", default_value_t = SERVER_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,

    /// Print as JSON: files, names, fingerprint, and when each certificate runs out
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let folder = std::path::absolute(&arguments.dir).context("cannot tell where the folder is")?;
    let files = Files::below(&folder);
    let (names, made) = if arguments.renew {
        let names = match arguments.names.as_slice() {
            [] => issue::names_in(&files.certificate).context("say the names")?,
            names => names.to_vec(),
        };
        let made = issue::renew(&files, &names, arguments.days)?;
        (names, made)
    } else {
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let made = issue::first(&files, &arguments.names, arguments.days, &host)?;
        (arguments.names.clone(), made)
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&files, &names, &made))?;
        writeln!(out)?;
    } else if arguments.renew {
        out.write_all(renewed(&files, &names, &made).as_bytes())?;
    } else {
        out.write_all(text(&files, &names, &made).as_bytes())?;
    }
    Ok(0)
}

fn as_json(files: &Files, names: &[String], made: &Made) -> serde_json::Value {
    json!({
        "names": names,
        "ca_file": files.authority,
        "ca_key": files.authority_key,
        "ca_sha256": made.fingerprint.to_string(),
        "ca_valid_until": quantity::time(made.authority_valid_until),
        "tls_certificate": files.certificate,
        "tls_key": files.key,
        "valid_until": quantity::time(made.valid_until),
    })
}

fn renewed(files: &Files, names: &[String], made: &Made) -> String {
    format!(
        "{} is made anew for {}, valid until {}\n\
         A Supervisor that runs takes it up within a minute; at once: systemctl reload warden-supervisor\n",
        harmless(&files.certificate.display().to_string()),
        harmless(&names.join(", ")),
        quantity::time(made.valid_until),
    )
}

fn text(files: &Files, names: &[String], made: &Made) -> String {
    let Files { authority, authority_key, certificate, key } = files;
    let rows = [
        (authority, "the authority, for every node and every user of ctl"),
        (authority_key, "its key, for nobody else; keep a copy of it elsewhere"),
        (certificate, "the certificate, with the authority behind it"),
        (key, "its key, for the Supervisor"),
    ]
    .map(|(path, about)| (harmless(&path.display().to_string()), about));
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let rows: String = rows.iter().map(|(path, about)| format!("  {path:width$}  {about}\n")).collect();
    let [authority, certificate, key] =
        [authority, certificate, key].map(|path| harmless(&path.display().to_string()));
    let url = url(names.first().map_or("", String::as_str));
    let fingerprint = made.fingerprint;
    format!(
        "made for {}, valid until {} (the authority until {}):\n{rows}\n\
         SHA-256 fingerprint of the authority:\n  {fingerprint}\n\n\
         Next, on this host, in {folder}/warden.d/supervisor.toml:\n\
         \x20 [supervisor]\n\
         \x20 listen = \"0.0.0.0:{PORT}\"\n\
         \x20 public_url = \"{url}\"\n\
         \x20 tls_certificate = \"{certificate}\"\n\
         \x20 tls_key = \"{key}\"\n\
         and then:\n\
         \x20 warden supervisor --check-config\n\
         \x20 systemctl enable --now warden-supervisor\n\n\
         On each node:\n\
         \x20 warden enroll {url} --ca-fingerprint {fingerprint} --token-file token\n\n\
         For ctl, here or where the authority's file is copied to:\n\
         \x20 export WARDEN_URL={url} WARDEN_CA={authority}\n",
        harmless(&names.join(", ")),
        quantity::time(made.valid_until),
        quantity::time(made.authority_valid_until),
        folder = fragments::FOLDER,
    )
}

fn url(name: &str) -> String {
    match name.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{PORT}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("https://{name}:{PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_version_six_stands_in_brackets() {
        assert_eq!(url("2001:db8::1"), "https://[2001:db8::1]:7600");
        assert_eq!(url("10.0.0.5"), "https://10.0.0.5:7600");
        assert_eq!(url("warden.example.com"), "https://warden.example.com:7600");
    }
}
