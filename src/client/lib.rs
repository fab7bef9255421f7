//! Calls of the Supervisor's HTTP API: bounded, tried again where that is safe, with one clear end.

mod error;
mod retry;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use url::{Host, Url};
use warden_platform::secret::Secret;
use warden_platform::sha256::hex;
use warden_platform::tls::{self, Fingerprint, Pinned, Trust};

pub use crate::error::{Failure, FieldIssue, Problem, Refusal};
use crate::retry::Patience;

/// A connection that has not come to be by then will not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// One call with its answer; no call of this API takes the Supervisor longer.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer: a hundred items of the largest kind fit many times over.
const ANSWER_BYTES: usize = 16 << 20;
/// How `ctl` is told of the Supervisor's authority.
const HOW_TO_TRUST: &str =
    "name its authority by --ca FILE, WARDEN_CA or the profile (warden ctl profile set NAME --ca FILE)";
/// Random bytes of an idempotency-key: two calls never draw the same.
const IDEMPOTENCY_BYTES: usize = 16;

/// Hears of a call that was not done and will be tried again after a pause.
pub type OnRetry = Box<dyn Fn(&Failure, Duration) + Send + Sync>;

pub struct Client {
    http: reqwest::Client,
    base: Url,
    ca: Option<Ca>,
    on_retry: OnRetry,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("base", &self.base)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// What alone proves the Supervisor.
#[derive(Debug, Clone)]
pub enum Ca {
    File(PathBuf),
    /// In PEM: what the agent of this host was enrolled with.
    Pem(String),
}

impl Ca {
    fn trust(&self) -> Trust<'_> {
        match self {
            Ca::File(path) => Trust::File(path),
            Ca::Pem(pem) => Trust::Pem(pem),
        }
    }
}

/// What came back from a call that was done.
#[derive(Debug)]
pub struct Answer {
    /// Null where there was none.
    pub body: Value,
    headers: HeaderMap,
}

impl Answer {
    /// The id of what was created: in a header such as `ld-deployment`, else in the body.
    pub fn created(&self, header: &str) -> Option<String> {
        let named = self.headers.get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        named.or_else(|| self.body.get("id").map(Value::to_string))
    }
}

struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: &'a [(&'a str, String)],
    body: Option<&'a Value>,
    idempotency_key: Option<String>,
}

impl Client {
    /// # Errors
    /// The trusted certificates cannot be read.
    pub fn new(base: Url, key: &Secret, ca: Option<Ca>, on_retry: OnRetry) -> anyhow::Result<Client> {
        let mut headers = HeaderMap::new();
        let mut value =
            HeaderValue::from_str(key.expose()).context("the API key has characters no key has")?;
        value.set_sensitive(true);
        headers.insert("ld-api-key", value);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        let trust = match &ca {
            Some(ca) => ca.trust(),
            None if base.scheme() == "https" => Trust::Host,
            None => Trust::Nobody,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::configuration(trust, None)?)
            // The key goes to the Supervisor that was named, and nowhere it points to.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(CALL_LIMIT)
            .default_headers(headers)
            .user_agent(concat!("warden-ctl/", env!("CARGO_PKG_VERSION")));
        if is_this_host(&base) {
            builder = builder.no_proxy();
        }
        Ok(Client { http: builder.build()?, base, ca, on_retry })
    }

    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let call = Call { method: Method::GET, path, query, body: None, idempotency_key: None };
        self.send(&call).await.map(|answer| answer.body)
    }

    /// Done once, however often it is sent.
    pub async fn post(&self, path: &[&str], body: &Value) -> anyhow::Result<Answer> {
        let call = Call {
            method: Method::POST,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: Some(idempotency_key()?),
        };
        Ok(self.send(&call).await?)
    }

    /// Done once, however often it is sent.
    pub async fn patch(&self, path: &[&str], body: &Value) -> anyhow::Result<Answer> {
        let call = Call {
            method: Method::PATCH,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: Some(idempotency_key()?),
        };
        Ok(self.send(&call).await?)
    }

    pub async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.delete_with(path, &[]).await
    }

    pub async fn delete_with(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), Failure> {
        let call = Call { method: Method::DELETE, path, query, body: None, idempotency_key: None };
        self.send(&call).await.map(|_| ())
    }

    /// A GET of an address that the Supervisor gave, with neither the key nor a limit on how long it takes. Its own
    /// addresses are proven as it is, others by the authorities of this host.
    pub fn elsewhere(&self, address: &str) -> anyhow::Result<reqwest::RequestBuilder> {
        let url: Url = address.parse().ok().context("the Supervisor gave an address that is none")?;
        let own = url.origin() == self.base.origin();
        let trust = match (&self.ca, url.scheme()) {
            (Some(ca), "https") if own => ca.trust(),
            (_, "https") => Trust::Host,
            _ => Trust::Nobody,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::configuration(trust, None)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT);
        if is_this_host(&url) {
            builder = builder.no_proxy();
        }
        Ok(builder.build()?.get(url))
    }

    async fn send(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut patience = Patience::default();
        let mut answer_lost = false;
        loop {
            let failure = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                // What is gone at the second try was removed by the first.
                Err(failure) if answer_lost && failure.is_not_found() && call.method == Method::DELETE => {
                    return Ok(Answer { body: Value::Null, headers: HeaderMap::new() });
                }
                Err(failure) => failure,
            };
            answer_lost |= matches!(failure, Failure::Lost { .. });
            let Some(pause) = patience.pause(&failure) else { return Err(failure) };
            (self.on_retry)(&failure, pause);
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut request = self.http.request(call.method.clone(), self.endpoint(call));
        if let Some(body) = call.body {
            request = request.json(body);
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let mut response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES {
                return Err(self.foreign(format!("more than {} MiB", ANSWER_BYTES >> 20)));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = self.judge(status, &headers, &bytes)?;
        Ok(Answer { body, headers })
    }

    fn judge(&self, status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status.is_success() {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(bytes)
                .map_err(|_| self.foreign(format!("status {status} without JSON")));
        }
        let problem = match (serde_json::from_slice(bytes).ok(), status.as_u16()) {
            (Some(problem), _) => problem,
            // A proxy before the Supervisor says for it that it is away.
            (None, 429 | 502 | 503 | 504) => Problem {
                reason: format!("something before the Supervisor answers {status}"),
                ..Problem::default()
            },
            (None, _) => return Err(self.foreign(format!("status {status} without a problem"))),
        };
        let retry_after = text(RETRY_AFTER.as_str()).and_then(|text| pause_until(&text, Timestamp::now()));
        let request = text("ld-request");
        Err(Failure::Refused(Box::new(Refusal { status: status.as_u16(), problem, retry_after, request })))
    }

    fn endpoint(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        url
    }

    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        let server = self.server();
        // Before TLS stands, nothing of the call was sent.
        if let Some(cause) = tls::words(error, HOW_TO_TRUST) {
            return Failure::Unreachable { server, cause };
        }
        if self.base.scheme() == "http" && tls::may_be_https(error) {
            return self
                .foreign("it does not speak http, and one with a certificate speaks https".to_owned());
        }
        let cause = innermost(error);
        if error.is_connect() {
            Failure::Unreachable { server, cause }
        } else {
            Failure::Lost { server, cause }
        }
    }

    fn foreign(&self, what: String) -> Failure {
        Failure::Foreign { server: self.server(), what }
    }

    fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

/// Where a Supervisor is: https, or http on this host, with nothing but a path behind it.
///
/// # Errors
/// What would show the key to the network, or is no such place.
pub fn base(text: &str) -> anyhow::Result<Url> {
    let url: Url = text
        .parse()
        .with_context(|| format!("`{text}` is no URL; one is like https://warden.example.com"))?;
    ensure!(matches!(url.scheme(), "https" | "http") && url.has_host(), "`{text}` is no https URL");
    let plain = url.scheme() == "http" && !is_this_host(&url);
    ensure!(
        !plain,
        "`{text}` would show the API key to the network; use https, or a tunnel that ends on this host"
    );
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    ensure!(bare, "a URL of a Supervisor has no user, no query and no fragment");
    Ok(url)
}

/// The certificate of the authority with this fingerprint, in PEM, out of what the Supervisor shows. No key is shown to
/// it.
///
/// # Errors
/// It shows no such one, or is not proven by it.
pub fn authority_of(url: &Url, fingerprint: Fingerprint) -> anyhow::Result<String> {
    ensure!(url.scheme() == "https", "a fingerprint proves nothing over http://: use https://");
    let pinned = Pinned::new(fingerprint);
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::configuration(Trust::Pinned(&pinned), None)?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL_LIMIT);
    if is_this_host(url) {
        builder = builder.no_proxy();
    }
    let http = builder.build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Its time limit needs the runtime from the start.
    let asked = runtime.block_on(async { http.get(url.clone()).send().await });
    pinned.pem().with_context(|| {
        let why =
            asked.err().map(|error| tls::words(&error, HOW_TO_TRUST).unwrap_or_else(|| innermost(&error)));
        format!("cannot learn the CA of {url}: {}", why.unwrap_or_else(|| "it shows none".to_owned()))
    })
}

fn is_this_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn idempotency_key() -> anyhow::Result<String> {
    let mut bytes = [0; IDEMPOTENCY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the kernel gives no random bytes"))?;
    Ok(hex(&bytes))
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn pause_until(retry_after: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = retry_after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(retry_after).ok()?.timestamp();
    Some(Duration::from_secs(u64::try_from(at.as_second() - now.as_second()).unwrap_or(0)))
}

/// The innermost cause says it; the outer ones repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_only_where_nobody_listens() {
        for good in
            ["https://warden.example.com/sub/", "http://127.0.0.1:8080", "http://[::1]:1", "http://localhost"]
        {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in [
            "warden.example.com",
            "ftp://x",
            "http://warden.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "https://user@x",
            "https://x/?a=b",
            "https://x/#a",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(pause_until("17", now), Some(Duration::from_secs(17)));
        assert_eq!(pause_until("Sat, 21 Nov 2026 12:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(pause_until("Sat, 21 Nov 2026 11:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(pause_until("soon", now), None);
    }

    #[test]
    fn two_keys_differ() {
        let (one, other) = (idempotency_key().unwrap(), idempotency_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
