//! The way to the Supervisor: TLS and who is proven by what, proxies, names.

use std::net::SocketAddr;

use warden::agent::{ClientCertificate, LinkState, Proxy as Way, Settings};
use warden::secret::Secret;

use super::site::{Agent, Site, enrolled, settings, surroundings};
use crate::supervisor::Backend;
use crate::support::pki::{Authority, Certified, Front};
use crate::support::proxy::Proxy;

/// A Supervisor, a node of it, and TLS before it.
async fn secured(certified: &Certified, clients: Option<&Authority>) -> (Site, Front, u64, Secret) {
    let site = Site::start(Backend::sqlite()).await;
    let front = Front::before(site.address, certified, clients).await;
    let (id, credential) = site.enrolled().await;
    (site, front, id, credential)
}

/// An agent that dials `https://localhost` at the port of `address`, with its settings changed.
fn agent(
    address: SocketAddr,
    id: u64,
    credential: &Secret,
    change: impl FnOnce(&std::path::Path, &mut Settings),
) -> Agent {
    let folder = enrolled(&format!("https://localhost:{}", address.port()), id, credential);
    let mut with = settings(folder.path());
    change(folder.path(), &mut with);
    Agent::start_with(folder, with, surroundings())
}

fn pin(folder: &std::path::Path, settings: &mut Settings, authority: &Authority) {
    let path = folder.join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    settings.ca_file = Some(path);
}

async fn why(agent: &Agent) -> String {
    let told = agent.tells("it waits", |status| match &status.link {
        LinkState::Waiting { why, .. } => Some(why.clone()),
        _ => None,
    });
    told.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_authority_proves_the_supervisor_and_no_other_does() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (site, front, id, credential) = secured(&ours.server("localhost"), None).await;
    let right = agent(front.address, id, &credential, |folder, settings| pin(folder, settings, &ours));
    site.linked(id).await;
    right.stop().await;
    site.unlinked(id).await;

    let wrong = agent(front.address, id, &credential, |folder, settings| pin(folder, settings, &theirs));
    let told = why(&wrong).await;
    assert!(told.contains("cannot prove that it is localhost: its certificate is signed by no authority that is trusted here"), "{told}");
    // The authorities of this host do not know it either.
    let host = agent(front.address, id, &credential, |_, _| {});
    let told = why(&host).await;
    assert!(
        told.contains("signed by no authority that is trusted here: name its authority as agent.ca_file"),
        "{told}"
    );
    assert!(!site.hub.connected(id));
    // A pinned authority that is renewed is believed without a restart.
    std::fs::write(wrong.folder.path().join("ca.pem"), ours.pem()).unwrap();
    site.linked(id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_proves_nothing() {
    let ours = Authority::new("ours");
    let (_site, front, id, credential) = secured(&ours.server("supervisor.example.com"), None).await;
    let agent = agent(front.address, id, &credential, |folder, settings| pin(folder, settings, &ours));
    let told = why(&agent).await;
    assert!(told.contains("its certificate is for supervisor.example.com, not for localhost"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_may_ask_for_a_client_certificate() {
    let ours = Authority::new("ours");
    let (site, front, id, credential) = secured(&ours.server("localhost"), Some(&ours)).await;
    let without = agent(front.address, id, &credential, |folder, settings| pin(folder, settings, &ours));
    why(&without).await;
    without.stop().await;
    assert!(!site.hub.connected(id));
    let with = agent(front.address, id, &credential, |folder, settings| {
        pin(folder, settings, &ours);
        let (certificate, key) = ours.client("iggy-1").write(folder, "client");
        settings.client = Some(ClientCertificate { certificate, key });
    });
    site.linked(id).await;
    with.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_proxy_is_asked_for_a_tunnel_and_sees_nothing_of_it() {
    let ours = Authority::new("ours");
    let (site, front, id, credential) = secured(&ours.server("localhost"), None).await;
    // me:p@ss
    let proxy = Proxy::of_http(front.address, Some("Basic bWU6cEBzcw==")).await;
    let through = |way: String| {
        agent(front.address, id, &credential, |folder, settings| {
            pin(folder, settings, &ours);
            settings.proxy = Way::try_from(way).unwrap();
        })
    };
    let unknown = through(format!("http://{}", proxy.address));
    assert_eq!(why(&unknown).await, "the proxy wants a user and password, or other ones (407)");
    unknown.stop().await;
    let known = through(format!("http://me:p%40ss@{}", proxy.address));
    site.linked(id).await;
    let line = format!("CONNECT localhost:{} HTTP/1.1", front.address.port());
    assert!(proxy.asked().iter().all(|asked| *asked == line), "{:?}", proxy.asked());
    proxy.cut();
    site.unlinked(id).await;
    site.linked(id).await;
    known.stop().await;
}
