//! Who may read `/metrics`.

use std::sync::Arc;

use axum::http::Method;
use warden::secret::Secret;
use warden::supervisor::network::Network;
use warden::supervisor::settings::{Metrics, Settings};

use super::Backend;
use super::served::{NOW, Served, settings};

async fn serving(backend: &Backend, metrics: Metrics, trusted_proxies: Vec<Network>) -> Served {
    let settings = Settings { metrics, trusted_proxies, ..settings(backend) };
    Served::with(settings, Arc::new(NOW.into()), None).await
}

async fn told(served: &Served, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = served.call(Method::GET, "/metrics", headers, "").await;
    if answer.status == 200 { (200, String::new()) } else { answer.problem() }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_for_this_host_alone_unless_the_configuration_says_otherwise() {
    let backend = Backend::sqlite();
    let served = serving(&backend, Metrics::default(), Vec::new()).await;
    assert_eq!(told(&served, &[]).await.0, 200);
    // Whoever is behind a proxy that is not believed may be anybody.
    let denied = (403, "address_denied".to_owned());
    for header in [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1"), ("via", "1.1 proxy")] {
        assert_eq!(told(&served, &[header]).await, denied, "{header:?}");
    }
    let wrong = (401, "unauthorized".to_owned());
    assert_eq!(told(&served, &[("authorization", "Bearer none-is-configured")]).await, wrong);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_networks_read_the_figures_also_through_a_proxy_that_is_believed() {
    let backend = Backend::sqlite();
    let metrics = Metrics { token: None, networks: networks(&["10.0.0.0/8"]) };
    let served = serving(&backend, metrics, networks(&["127.0.0.0/8"])).await;
    let denied = (403, "address_denied".to_owned());
    assert_eq!(told(&served, &[]).await, denied, "this host is not among them");
    assert_eq!(told(&served, &[("x-forwarded-for", "10.1.2.3")]).await.0, 200);
    assert_eq!(told(&served, &[("x-forwarded-for", "192.0.2.1")]).await, denied);
    assert_eq!(told(&served, &[("x-forwarded-for", "10.1.2.3, 192.0.2.1")]).await, denied);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_its_own_reads_the_figures_from_anywhere_and_nothing_else() {
    let backend = Backend::sqlite();
    let metrics = Metrics { token: Some(Secret::new("0123456789abcdef")), networks: Vec::new() };
    let served = serving(&backend, metrics, Vec::new()).await;
    let unauthorized = (401, "unauthorized".to_owned());
    let right = ("authorization", "Bearer 0123456789abcdef");
    assert_eq!(told(&served, &[right]).await.0, 200);
    assert_eq!(told(&served, &[right, ("x-forwarded-for", "192.0.2.1")]).await.0, 200);
    assert_eq!(told(&served, &[]).await, unauthorized);
    for wrong in ["Bearer 0123456789abcdee", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
        assert_eq!(told(&served, &[("authorization", wrong)]).await, unauthorized, "{wrong}");
    }
    // Nor does an API key, nor the token anything but the figures.
    assert_eq!(told(&served, &[("ld-api-key", &served.key)]).await, unauthorized);
    assert_eq!(served.call(Method::GET, "/deployments", &[right], "").await.status, 401);
    let refused = served.call(Method::GET, "/metrics", &[], "").await;
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"warden metrics\"");
    served.stop().await;
}
