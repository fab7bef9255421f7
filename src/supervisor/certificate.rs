//! What can be wrong with the certificate that a Supervisor is told to serve, found before a node stumbles over it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::User;
use url::Url;
use warden_certificates::{Certificate, parse_pem};
use warden_host::{Verdict, quantity};
use warden_platform::user_view::{Permissions, UserView};

use super::server;
use super::settings::Tls;

/// The user of the packaged unit.
pub const USER: &str = "warden-supervisor";

/// What was found.
#[derive(Debug, Default)]
pub struct Judgement {
    /// For whom, and until when; empty when that cannot be told.
    pub told: String,
    pub complaints: Vec<Complaint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Nodes are kept away, or it does not start; otherwise it works for now.
    pub fails: bool,
    pub what: String,
    pub advice: &'static str,
}

const ANEW: &str = "warden supervisor init-tls --renew NAME..., or ask your authority for another one";
const TURN_ROUND: &str =
    "put the server's own certificate first in the file, or make both: warden supervisor init-tls NAME...";
const READABLE: &str =
    "chown root:warden-supervisor and chmod 640 the key; the certificate may be read by everybody";

/// Looks at certificate, names, time and key. `public_url`: how nodes call it. `now`: Unix time in seconds.
pub fn judge(tls: &Tls, public_url: Option<&str>, now: i64) -> Judgement {
    let mut judgement = Judgement::default();
    let shown = tls.certificate.display().to_string();
    let read = std::fs::read_to_string(&tls.certificate);
    let chain = match read.map_err(|error| format!("cannot read {shown}: {error}")).and_then(|text| {
        parse_pem(&shown, &text).map_err(|error| format!("no certificate can be served: {error}"))
    }) {
        Ok(chain) => chain,
        Err(what) => {
            judgement.complain(true, what, "name a file in PEM as supervisor.tls_certificate");
            return judgement;
        }
    };
    if let Some(own) = chain.first() {
        judgement.of_own(own, &shown, public_url, now);
    }
    for one in chain.iter().skip(1) {
        if let Some((_, what)) = one.judge_time(now).filter(|(verdict, _)| *verdict == Verdict::Fail) {
            let what = format!("{} in {shown} {what}", one.subject);
            judgement.complain(one.not_after < now || one.not_before > now, what, ANEW);
        }
    }
    judgement.of_key(tls);
    judgement
}

/// Fails where the server's own certificate is not valid now: expired, or not yet valid.
pub fn is_of_today(tls: &Tls) -> anyhow::Result<()> {
    let (now, shown) = (jiff::Timestamp::now().as_second(), tls.certificate.display().to_string());
    let text = std::fs::read_to_string(&tls.certificate).with_context(|| format!("cannot read {shown}"))?;
    let chain = parse_pem(&shown, &text).map_err(anyhow::Error::msg)?;
    let Some(own) = chain.first() else { return Ok(()) };
    match own.judge_time(now) {
        Some((_, what)) if own.not_after < now || own.not_before > now => bail!("{shown} {what}"),
        _ => Ok(()),
    }
}

/// Says in the log what is wrong: the Supervisor serves it all the same.
pub fn warn(tls: &Tls, public_url: Option<&str>) {
    let now = jiff::Timestamp::now().as_second();
    for Complaint { what, advice, .. } in judge(tls, public_url, now).complaints {
        tracing::warn!("the certificate: {what}; {advice}");
    }
}

/// Why the user of the packaged unit cannot read a file that whoever runs this can; none where that cannot be told.
pub fn hidden_from_service(path: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = User::from_name(USER).ok().flatten()?;
    let view = UserView::new(Permissions::of_known(&user)).ok()?;
    match view.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some(format!("the user {USER} may not read {}", path.display()))
        }
        _ => None,
    }
}

impl Judgement {
    fn complain(&mut self, fails: bool, what: String, advice: &'static str) {
        self.complaints.push(Complaint { fails, what, advice });
    }

    fn of_own(&mut self, own: &Certificate, shown: &str, public_url: Option<&str>, now: i64) {
        let names = own.names.join(", ");
        self.told = format!("for {names}, valid until {}", quantity::time(own.not_after));
        if own.is_authority {
            let what = format!(
                "{shown} begins with the certificate of an authority (CA:TRUE, {}), which no client accepts as a server's",
                own.subject
            );
            self.complain(true, what, TURN_ROUND);
            return;
        }
        if let Some((_, what)) = own.judge_time(now) {
            self.complain(own.not_after < now || own.not_before > now, format!("{shown} {what}"), ANEW);
        }
        if own.names.is_empty() {
            let what =
                format!("{shown} names no host (no subject alternative name), so no client accepts it");
            self.complain(true, what, ANEW);
            return;
        }
        let called = public_url.and_then(|url| Some(Url::parse(url).ok()?.host_str()?.to_owned()));
        if let Some(called) = called.map(|called| called.trim_matches(['[', ']']).to_owned())
            && !own.covers(&called)
        {
            let what = format!("{shown} is for {names}, and nodes call the Supervisor {called} (public_url)");
            self.complain(true, what, ANEW);
        }
    }

    fn of_key(&mut self, tls: &Tls) {
        let key = tls.key.display();
        if let Err(error) = server::config(tls) {
            let what = format!("{error:#}");
            self.complain(true, what, "name the key of this certificate as supervisor.tls_key");
        }
        if std::fs::metadata(&tls.key).is_ok_and(|about| about.permissions().mode() & 0o004 != 0) {
            self.complain(false, format!("everybody on this host can read {key}"), READABLE);
        }
        let files = [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()];
        for what in files.into_iter().flatten().filter_map(|path| hidden_from_service(path)) {
            self.complain(true, what, READABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// 2026-11-21T11:20:00Z.
    const NOW: i64 = 1_795_260_000;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// With an authority, and a certificate for `names` that lasts until the first of `month` in 2027.
        fn with(names: &[&str], month: u8) -> Folder {
            let folder = Folder(tempfile::tempdir().unwrap());
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(2027, month, 1);
            let key = KeyPair::generate().unwrap();
            let own = params.signed_by(&key, &*authority).unwrap();
            folder.write("own.pem", &own.pem());
            folder.write("own.key", &key.serialize_pem());
            folder.write("authority.pem", &authority.pem());
            folder.write("authority.key", &authority.key().serialize_pem());
            folder
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }

        fn told(&self, certificate: &str, key: &str, url: Option<&str>, now: i64) -> Vec<(bool, String)> {
            let at = |name: &str| self.0.path().join(name);
            let tls = Tls { certificate: at(certificate), key: at(key), client_ca: None };
            let place = format!("{}/", self.0.path().display());
            let complaints = judge(&tls, url, now).complaints.into_iter();
            complaints.map(|one| (one.fails, one.what.replace(&place, ""))).collect()
        }
    }

    #[test]
    fn what_keeps_nodes_away_fails_and_what_will_is_warned_of() {
        let folder = Folder::with(&["warden.example.com", "10.0.0.5"], 6);
        let told = |url| folder.told("own.pem", "own.key", url, NOW);
        assert_eq!(told(Some("https://warden.example.com:7600")), []);
        assert_eq!(told(Some("https://10.0.0.5:7600")), []);
        assert_eq!(told(None), []);
        assert_eq!(
            told(Some("https://other.example.com")),
            [(
                true,
                "own.pem is for warden.example.com, 10.0.0.5, and nodes call the Supervisor other.example.com (public_url)"
                    .to_owned()
            )]
        );
        let soon = Folder::with(&["a.example"], 1).told("own.pem", "own.key", None, 1_797_000_000);
        assert_eq!(soon.len(), 1);
        assert!(!soon[0].0 && soon[0].1.starts_with("own.pem expires in "), "{soon:?}");
        let past = Folder::with(&["a.example"], 1).told("own.pem", "own.key", None, NOW + 100 * 86_400);
        assert!(past[0].0 && past[0].1.starts_with("own.pem expired "), "{past:?}");
        let nameless = Folder::with(&[], 6).told("own.pem", "own.key", None, NOW);
        assert!(nameless[0].0 && nameless[0].1.contains("names no host"), "{nameless:?}");
    }

    #[test]
    fn an_authority_a_foreign_key_and_one_that_everybody_reads_are_named() {
        let folder = Folder::with(&["a.example"], 6);
        let told = folder.told("authority.pem", "authority.key", None, NOW);
        assert!(
            told[0].0 && told[0].1.contains("begins with the certificate of an authority (CA:TRUE"),
            "{told:?}"
        );
        let told = folder.told("own.pem", "authority.key", None, NOW);
        assert!(told[0].0 && told[0].1.starts_with("own.pem and authority.key do not fit: "), "{told:?}");
        std::fs::set_permissions(folder.0.path().join("own.key"), PermissionsExt::from_mode(0o644)).unwrap();
        let told = folder.told("own.pem", "own.key", None, NOW);
        assert_eq!(told, [(false, "everybody on this host can read own.key".to_owned())]);
        let told = folder.told("absent.pem", "own.key", None, NOW);
        assert!(told[0].0 && told[0].1.starts_with("cannot read absent.pem: "), "{told:?}");
    }
}
