//! Keys: who is who, what each may do, and what does not exist for it.

use axum::http::Method;
use serde_json::{Value, json};
use warden::supervisor::settings::Settings;

use super::Backend;
use super::served::{Answer, NOW, Served, settings};

super::on_both_stores!(
    a_key_is_good_until_it_expires_or_is_removed,
    every_endpoint_asks_for_its_permission,
    a_key_is_limited_to_its_networks,
    what_is_anothers_and_what_is_not_there_look_the_same,
    a_key_limited_to_deployments_sees_those_alone,
    a_key_lives_a_year_at_most,
    the_last_administrator_stays,
    the_administrators_key_is_shown_once_in_the_life_of_a_store,
    no_answer_and_no_store_holds_a_secret_after_it_was_shown,
    a_key_that_calls_too_often_is_told_when_to_come_back,
);

async fn status(served: &Served, key: &str, path: &str) -> (u16, String) {
    served.call(Method::GET, path, &[("ld-api-key", key)], "").await.problem()
}

async fn a_key_is_good_until_it_expires_or_is_removed(backend: Backend) {
    let served = Served::start(&backend).await;
    let (id, key) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    assert!(key.starts_with(&format!("wk_{id}_")), "{key}");
    assert_eq!(status(&served, &key, "/deployments").await.0, 200);
    let unauthorized = (401, "unauthorized".to_owned());
    let mut tampered = key.clone();
    tampered.pop();
    for wrong in
        ["", "x", "wk_", "wk_1_", &tampered, &format!("{key}x"), &key.to_uppercase(), &"k".repeat(300)]
    {
        assert_eq!(status(&served, wrong, "/deployments").await, unauthorized, "{wrong:?}");
    }
    // The secret of one key is worth nothing with the id of another.
    let (other, _) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let swapped = key.replacen(&id.to_string(), &other.to_string(), 1);
    assert_eq!(status(&served, &swapped, "/deployments").await, unauthorized);
    let answer = served.call(Method::GET, "/deployments", &[], "").await;
    assert_eq!(answer.header("www-authenticate"), "ApiKey realm=\"warden\"");

    let day = 24 * 3_600_000;
    served.pass(30 * day - 1);
    assert_eq!(status(&served, &key, "/deployments").await.0, 200);
    served.pass(1);
    assert_eq!(status(&served, &key, "/deployments").await, unauthorized, "it is 30 days old");

    let (id, key) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    assert_eq!(served.delete(&format!("/api_keys/{id}")).await.status, 204);
    assert_eq!(status(&served, &key, "/deployments").await, unauthorized);
    let gone = served.delete(&format!("/api_keys/{id}")).await;
    assert_eq!(gone.problem(), (404, "api_key_not_found".into()));
    served.stop().await;
}

async fn every_endpoint_asks_for_its_permission(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let started = served.post(&format!("/deployments/{deployment}/activities/iggy/stop"), &json!({})).await;
    let (action, activity) = (started.id("ld-async-action"), started.json()["items"][0]["id"].clone());
    let d = format!("/deployments/{deployment}");
    let (read, manage) = (Some("deployment:read"), Some("deployment:manage"));
    // None: an administrator's key.
    let endpoints = [
        (Method::GET, "/deployments".to_owned(), read),
        (Method::POST, "/deployments".to_owned(), manage),
        (Method::GET, d.clone(), read),
        (Method::PATCH, d.clone(), manage),
        (Method::GET, format!("{d}/nodes"), read),
        (Method::GET, format!("{d}/nodes/{node}"), read),
        (Method::POST, format!("{d}/enrolments"), manage),
        (Method::GET, format!("{d}/enrolments"), read),
        (Method::DELETE, format!("{d}/enrolments/7"), manage),
        (Method::POST, format!("{d}/activities/iggy/restart"), manage),
        (Method::GET, format!("{d}/activities"), read),
        (Method::GET, format!("{d}/activities/{activity}"), read),
        (Method::GET, format!("{d}/snapshots"), read),
        (Method::POST, format!("{d}/snapshots"), manage),
        (Method::GET, format!("{d}/snapshots/7"), read),
        (Method::DELETE, format!("{d}/snapshots/7"), manage),
        (Method::GET, format!("{d}/snapshots/7/download"), read),
        (Method::GET, "/async_actions".to_owned(), read),
        (Method::GET, format!("{d}/async_actions"), read),
        (Method::GET, format!("/async_actions/{action}"), read),
        (Method::POST, format!("/async_actions/{action}/cancel"), manage),
        (Method::GET, format!("/async_actions/{action}/events"), read),
        (Method::GET, format!("{d}/heartbeats"), read),
        (Method::GET, format!("{d}/nodes/{node}/heartbeats/iggy"), read),
        (Method::GET, format!("{d}/metrics"), read),
        (Method::GET, format!("{d}/nodes/{node}/metrics/iggy"), read),
        (Method::DELETE, format!("{d}/nodes/{node}"), manage),
        (Method::DELETE, d.clone(), manage),
        (Method::GET, "/api_keys".to_owned(), None),
        (Method::POST, "/api_keys".to_owned(), None),
        (Method::DELETE, "/api_keys/7".to_owned(), None),
        (Method::GET, "/audit".to_owned(), None),
    ];
    let documented = served.get("/openapi.json").await.json();
    let paths = documented["paths"].as_object().unwrap().values();
    let with_a_key = paths.flat_map(|item| item.as_object().unwrap().values());
    let count = with_a_key.filter(|operation| operation.get("security").is_none()).count();
    assert_eq!(endpoints.len(), count, "every endpoint is tried here");
    let permissions = [
        "deployment:read",
        "deployment:manage",
        "deployment:connector:read",
        "deployment:connector:manage",
        "deployment:config:read",
        "deployment:config:manage",
    ];
    let mut keys = Vec::new();
    for permission in permissions {
        keys.push((permission, served.key(json!({ "permissions": [permission] })).await.1));
    }
    for (method, path, needed) in endpoints {
        for (permission, key) in &keys {
            let headers = [("ld-api-key", key.as_str()), ("content-type", "application/json")];
            let answer = served.call(method.clone(), &path, &headers, "{}").await;
            let allowed = needed == Some(*permission);
            assert_eq!(answer.status != 403, allowed, "{method} {path} with {permission}: {}", answer.text);
            if !allowed {
                assert_eq!(answer.problem().1, "permission_denied");
            }
        }
    }
    served.stop().await;
}

async fn a_key_is_limited_to_its_networks(backend: Backend) {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let settings = Settings { trusted_proxies, ..settings(&backend) };
    let served = Served::with(settings, std::sync::Arc::new(NOW.into()), None).await;
    let allow_list = json!(["10.0.0.0/8", "2001:db8::7"]);
    let (_, key) = served.key(json!({ "permissions": ["deployment:read"], "allow_list": allow_list })).await;
    for (from, status) in [
        ("10.1.2.3", 200),
        ("2001:db8::7", 200),
        ("11.0.0.1", 403),
        ("2001:db8::8", 403),
        ("10.1.2.3, 11.0.0.1", 403),
    ] {
        let headers = [("ld-api-key", key.as_str()), ("x-forwarded-for", from)];
        let answer = served.call(Method::GET, "/deployments", &headers, "").await;
        assert_eq!(answer.status, status, "{from}: {}", answer.text);
        if status == 403 {
            assert_eq!(answer.problem().1, "address_denied");
        }
    }
    let direct = served.call(Method::GET, "/deployments", &[("ld-api-key", &key)], "").await;
    assert_eq!(direct.status, 403, "127.0.0.1 is not on the list");
    served.stop().await;
}

/// The answer but for what differs in every answer.
fn told(answer: &Answer, id: u64) -> (u16, Vec<(String, String)>, String) {
    let request = answer.header("ld-request");
    let headers =
        answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers =
        headers.filter(|(name, _)| name != "ld-request" && name != "date" && name != "content-length");
    let text = answer.text.replace(request, "REQUEST").replace(&id.to_string(), "ID");
    (answer.status, headers.collect(), text)
}

async fn what_is_anothers_and_what_is_not_there_look_the_same(backend: Backend) {
    let served = Served::start(&backend).await;
    let theirs =
        served.post("/deployments", &json!({ "name": "theirs", "tenant_id": 2 })).await.id("ld-deployment");
    let their_node = served.node(theirs, "a").await;
    let path = format!("/deployments/{theirs}/activities/iggy/restart");
    let started = served.post(&path, &json!({})).await;
    let (action, activity) =
        (started.id("ld-async-action"), started.json()["items"][0]["id"].as_u64().unwrap());
    let mine = served.deployment("mine").await;
    let permissions = json!(["deployment:read", "deployment:manage"]);
    let (_, all) = served.key(json!({ "permissions": permissions })).await;
    let (_, limited) = served.key(json!({ "permissions": permissions, "deployments": [mine] })).await;
    let other = served.deployment("other").await;
    let absent = 999_999_999_999;
    for (key, there) in [(&all, theirs), (&limited, theirs), (&limited, other)] {
        for (method, path) in [
            (Method::GET, "/deployments/{}".to_owned()),
            (Method::GET, "/deployments/{}/nodes".to_owned()),
            (Method::GET, format!("/deployments/{{}}/nodes/{their_node}")),
            (Method::DELETE, format!("/deployments/{{}}/nodes/{their_node}")),
            (Method::POST, "/deployments/{}/enrolments".to_owned()),
            (Method::POST, "/deployments/{}/activities/iggy/restart".to_owned()),
            (Method::POST, "/deployments/{}/activities/nonsense/nonsense".to_owned()),
            (Method::GET, "/deployments/{}/activities".to_owned()),
            (Method::GET, format!("/deployments/{{}}/activities/{activity}")),
            (Method::GET, "/deployments/{}/async_actions".to_owned()),
            (Method::GET, "/deployments/{}/heartbeats".to_owned()),
            (Method::GET, "/deployments/{}/metrics".to_owned()),
        ] {
            let headers = [("ld-api-key", key.as_str()), ("content-type", "application/json")];
            let (at, nowhere) =
                (path.replace("{}", &there.to_string()), path.replace("{}", &absent.to_string()));
            let anothers = served.call(method.clone(), &at, &headers, "{}").await;
            let missing = served.call(method.clone(), &nowhere, &headers, "{}").await;
            assert_eq!(told(&anothers, there), told(&missing, absent), "{method} {path}");
            assert_eq!(anothers.problem(), (404, "deployment_not_found".into()), "{method} {path}");
        }
    }
    // A node of another deployment is none of this one, and an action of another tenant is not there.
    let node = served.get(&format!("/deployments/{mine}/nodes/{their_node}")).await;
    assert_eq!(node.problem(), (404, "node_not_found".into()));
    for path in ["/async_actions/{}", "/async_actions/{}/events"] {
        let of = async |id: u64| {
            let path = path.replace("{}", &id.to_string());
            served.call(Method::GET, &path, &[("ld-api-key", &all)], "").await
        };
        let (anothers, missing) = (of(action).await, of(absent).await);
        assert_eq!(told(&anothers, action), told(&missing, absent), "{path}");
        assert_eq!(anothers.problem(), (404, "async_action_not_found".into()));
    }
    let cancel = served.post_as(&all, &format!("/async_actions/{action}/cancel"), &json!({})).await;
    assert_eq!(cancel.problem(), (404, "async_action_not_found".into()));
    let listed = served.call(Method::GET, "/async_actions", &[("ld-api-key", &all)], "").await.json();
    assert_eq!(listed["total_results"], 0);
    let foreign = served.post_as(&all, "/deployments", &json!({ "name": "x", "tenant_id": 2 })).await;
    assert_eq!(foreign.problem(), (403, "permission_denied".into()));
    served.stop().await;
}

async fn a_key_limited_to_deployments_sees_those_alone(backend: Backend) {
    let served = Served::start(&backend).await;
    let (mine, other) = (served.deployment("mine").await, served.deployment("other").await);
    for deployment in [mine, other] {
        served.node(deployment, "a").await;
        let path = format!("/deployments/{deployment}/activities/iggy/restart");
        assert_eq!(served.post(&path, &json!({})).await.status, 202);
    }
    let permissions = json!(["deployment:read", "deployment:manage"]);
    let (_, key) = served.key(json!({ "permissions": permissions, "deployments": [mine.to_string()] })).await;
    for path in ["/deployments", "/async_actions"] {
        let listed = served.call(Method::GET, path, &[("ld-api-key", &key)], "").await.json();
        assert_eq!(listed["total_results"], 1, "{path}");
    }
    let listed = served.call(Method::GET, "/deployments", &[("ld-api-key", &key)], "").await.json();
    assert_eq!(listed["items"][0]["id"], mine);
    let made = served.post_as(&key, "/deployments", &json!({ "name": "more" })).await;
    assert_eq!(made.problem(), (403, "permission_denied".into()));
    let body = json!({ "name": "k", "permissions": permissions, "deployments": [mine, 7],
                       "expires_at": "2026-06-01T00:00:00Z" });
    let refused = served.post("/api_keys", &body).await;
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("deployments[1]")));
    served.stop().await;
}

async fn a_key_lives_a_year_at_most(backend: Backend) {
    let served = Served::start(&backend).await;
    let body = |expires_at: i64| {
        let expires_at = jiff::Timestamp::from_millisecond(expires_at).unwrap().to_string();
        json!({ "name": "k", "permissions": ["deployment:read"], "expires_at": expires_at })
    };
    let year = 365 * 24 * 3_600_000;
    assert_eq!(served.post("/api_keys", &body(NOW + year)).await.status, 201);
    for (expires_at, field) in [(NOW + year + 1, "expires_at"), (NOW, "expires_at")] {
        let refused = served.post("/api_keys", &body(expires_at)).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)));
    }
    let endless = json!({ "name": "k", "permissions": ["deployment:read"] });
    let refused = served.post("/api_keys", &endless).await.json();
    assert_eq!(refused["field_issues"][0]["code"], "missing_field");
    let nothing = json!({ "name": "k", "permissions": [], "expires_at": "2026-06-01T00:00:00Z" });
    assert_eq!(served.post("/api_keys", &nothing).await.json()["field"], "permissions");
    served.stop().await;
}

async fn the_last_administrator_stays(backend: Backend) {
    let served = Served::start(&backend).await;
    let listed = served.get("/api_keys").await.json();
    let first = listed["items"][0]["id"].as_u64().unwrap();
    assert_eq!(
        (listed["total_results"].as_u64(), &listed["items"][0]["administrator"]),
        (Some(1), &json!(true))
    );
    let refused = served.delete(&format!("/api_keys/{first}")).await;
    assert_eq!(refused.problem(), (409, "last_administrator".into()));
    assert_eq!(served.get("/api_keys").await.status, 200, "it is still good");
    let (_, second) = served.key(json!({ "administrator": true })).await;
    assert_eq!(served.delete(&format!("/api_keys/{first}")).await.status, 204);
    assert_eq!(status(&served, &second, "/audit").await.0, 200);
    served.stop().await;
}

async fn the_administrators_key_is_shown_once_in_the_life_of_a_store(backend: Backend) {
    let served = Served::start(&backend).await;
    let key = served.key.clone();
    let served = served.restarted(&backend).await;
    assert_eq!(served.key, key, "none was made");
    assert_eq!(served.get("/api_keys").await.json()["total_results"], 1);
    served.stop().await;
}

/// The end of a key or token, which is nothing but random.
fn random_of(secret: &str) -> &str {
    &secret[secret.len() - 40..]
}

async fn no_answer_and_no_store_holds_a_secret_after_it_was_shown(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let mut secrets = vec![served.key.clone()];
    let key =
        json!({ "name": "k", "permissions": ["deployment:read"], "expires_at": "2026-06-08T00:00:00Z" });
    let made = served.once("make a key", "/api_keys", &key).await;
    secrets.push(made.json()["key"].as_str().unwrap().to_owned());
    let enrolments = format!("/deployments/{deployment}/enrolments");
    let token = served.once("make a token", &enrolments, &json!({})).await;
    secrets.push(token.json()["token"].as_str().unwrap().to_owned());
    let hidden = |text: &str| {
        for secret in &secrets {
            assert!(!text.contains(random_of(secret)), "{text}");
            assert!(!text.contains(&warden::secret::Secret::new(secret.clone()).hash()), "{text}");
        }
    };
    for (replay, field) in [
        (served.once("make a key", "/api_keys", &key).await, "key"),
        (served.once("make a token", &enrolments, &json!({})).await, "token"),
    ] {
        assert_eq!((replay.status, replay.header("idempotent-replayed")), (201, "true"));
        assert_eq!(replay.json()[field], Value::Null);
        hidden(&replay.text);
    }
    for path in [
        "/deployments",
        "/api_keys",
        "/audit?results=100",
        &format!("/deployments/{deployment}"),
        &format!("/deployments/{deployment}/nodes"),
        "/metrics",
        "/openapi.json",
        "/docs",
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 200);
        hidden(&answer.text);
    }
    for secret in &secrets {
        hidden(&served.call(Method::GET, "/deployments/x", &[("ld-api-key", secret)], "").await.text);
    }
    served.stop().await;
    let kept = backend.everything();
    assert!(kept.contains("events-prod") && kept.contains("make a token"), "the store was looked into");
    for secret in &secrets {
        assert!(!kept.contains(random_of(secret)), "only hashes are kept");
    }
}

async fn a_key_that_calls_too_often_is_told_when_to_come_back(backend: Backend) {
    let mut settings = settings(&backend);
    (settings.limits.burst, settings.limits.per_second) = (5, 1);
    let served = Served::with(settings, std::sync::Arc::new(NOW.into()), None).await;
    let (_, one) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let (_, other) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = served.call(Method::GET, "/deployments", &[("ld-api-key", &one)], "").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let refused = refused.expect("20 calls in less than 15 seconds");
    assert_eq!(refused.problem().1, "rate_limited");
    assert_eq!((refused.header("retry-after"), &refused.json()["retryable"]), ("1", &json!(true)));
    assert_eq!(status(&served, &other, "/deployments").await.0, 200, "each key has its own");
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if status(&served, &one, "/deployments").await.0 == 200 {
            break;
        }
    }
    served.stop().await;
}
