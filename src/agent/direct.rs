//! The Supervisor as the agent of this host calls it, for whoever looks at the way there.

use std::path::Path;

use warden_host::Authorities;
use warden_snapshot::Direct;

use super::identity::Identity;
use super::settings::Settings;

/// None where there is no Supervisor, or where another way than a plain connection leads to it: a proxy, or a
/// certificate of this host's that must be shown. Whoever went without them would find faults that are none.
pub fn direct(settings: &Settings, credentials: Option<&Path>) -> Option<Direct> {
    let identity = Identity::read(&settings.state_directory, credentials).ok().flatten();
    let endpoint = settings.supervisor.as_ref().or(identity.as_ref().map(|identity| &identity.supervisor))?;
    let proxy = settings.proxy.to(endpoint, |name| std::env::var(name).ok());
    if settings.client.is_some() || !matches!(proxy, Ok(None)) {
        return None;
    }
    let of_file = |file: &Path| Authorities {
        named_by: format!("agent.ca_file ({})", file.display()),
        pem: std::fs::read_to_string(file).map_err(|error| error.to_string()),
    };
    let of_enrolment = |pem: String| Authorities { named_by: "the enrolment".to_owned(), pem: Ok(pem) };
    let given = identity.as_ref().and_then(|identity| identity.ca.clone());
    let authorities = settings.ca_file.as_deref().map(of_file).or(given.map(of_enrolment));
    Some(Direct { url: endpoint.to_string(), authorities })
}

#[cfg(test)]
mod tests {
    use warden_platform::secret::Secret;

    use super::*;
    use crate::link::Proxy;
    use crate::settings::ClientCertificate;

    #[test]
    fn a_supervisor_is_known_with_what_proves_it_unless_something_stands_between() {
        let state = tempfile::tempdir().unwrap();
        let mut settings =
            Settings { state_directory: state.path().to_owned(), proxy: Proxy::Never, ..Settings::default() };
        assert_eq!(direct(&settings, None), None);
        let mut identity = Identity {
            node: 1,
            deployment: 2,
            supervisor: "https://sup.example.com:7600".parse().unwrap(),
            ca: None,
            credential: Secret::new("wnode_x"),
        };
        identity.write(state.path()).unwrap();
        let found = direct(&settings, None).unwrap();
        assert_eq!((found.url.as_str(), found.authorities), ("https://sup.example.com:7600", None));
        identity.ca = Some("PEM".to_owned());
        identity.write(state.path()).unwrap();
        let named = direct(&settings, None).unwrap().authorities.unwrap();
        assert_eq!((named.named_by.as_str(), named.pem.as_deref()), ("the enrolment", Ok("PEM")));
        settings.ca_file = Some("/nonexistent.pem".into());
        let named = direct(&settings, None).unwrap().authorities.unwrap();
        assert_eq!(named.named_by, "agent.ca_file (/nonexistent.pem)");
        assert!(named.pem.is_err());
        settings.client = Some(ClientCertificate { certificate: "/c".into(), key: "/k".into() });
        assert_eq!(direct(&settings, None), None);
        settings.client = None;
        settings.proxy = Proxy::try_from("http://proxy:3128".to_owned()).unwrap();
        assert_eq!(direct(&settings, None), None);
    }
}
