//! What a request asks for: path parameters, the query, and the body with its idempotency key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::json_types::Id;
use super::problem::{FieldIssue, Problem};
use super::{Api, BODY_LIMIT, BODY_PATIENCE, idempotency};
use crate::NAME_LIMIT;

/// The ids in paths, and what is told where there is none of such a thing.
const NOT_FOUND: [(&str, &str); 7] = [
    ("activity_id", "activity_not_found"),
    ("api_key_id", "api_key_not_found"),
    ("async_action_id", "async_action_not_found"),
    ("deployment_id", "deployment_not_found"),
    ("enrolment_id", "enrolment_not_found"),
    ("node_id", "node_not_found"),
    ("snapshot_id", "snapshot_not_found"),
];

/// The parameters in the path.
pub struct Place(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::bad_request("invalid_path", "the path is not UTF-8"))?;
        Ok(Place(parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Place {
    /// What is no id is the id of nothing.
    pub fn id(&self, name: &str) -> Result<u64, Problem> {
        let no_such = |error: <Id as FromStr>::Err| {
            let code =
                NOT_FOUND.iter().find(|(known, _)| *known == name).map_or("path_not_found", |(_, code)| code);
            Problem::not_found(code, format!("{name}: {error}"))
        };
        self.text(name).parse::<Id>().map(|id| id.0).map_err(no_such)
    }

    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Problem> {
        self.text(name).parse().map_err(|error: T::Err| Problem::field(name, "wrong_type", error.to_string()))
    }

    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// The query: parameters that the endpoint knows, each at most once.
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query; anything but `known` is a problem.
    pub fn read(parts: &Parts, known: &[&str]) -> Result<Query, Problem> {
        let mut pairs = BTreeMap::new();
        let mut issues = Vec::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()) {
            let wrong = if !known.contains(&&*name) {
                Some(("unknown_field", expected_one_of(known)))
            } else if value.chars().any(char::is_control) {
                Some(("invalid_value", "expected no control characters".to_owned()))
            } else if pairs.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                Some(("duplicate_field", "expected at most once".to_owned()))
            } else {
                None
            };
            issues.extend(wrong.map(|(code, reason)| FieldIssue { code, reason, path: name.into_owned() }));
        }
        if issues.is_empty() { Ok(Query(pairs)) } else { Err(Problem::validation(issues)) }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| {
            let wrong = |error: T::Err| Problem::field(name, "invalid_value", error.to_string());
            text.parse().map_err(wrong)
        };
        self.text(name).map(parse).transpose()
    }

    pub fn id(&self, name: &str) -> Result<Option<u64>, Problem> {
        Ok(self.parsed::<Id>(name)?.map(|id| id.0))
    }

    /// All of it but the page, to link to other pages.
    pub fn without_page(&self) -> impl Iterator<Item = (&str, &str)> {
        let rest = self.0.iter().filter(|(name, _)| !matches!(name.as_str(), "page" | "results"));
        rest.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn expected_one_of(known: &[&str]) -> String {
    if known.is_empty() { "expected no parameters".into() } else { format!("expected {}", known.join(", ")) }
}

/// The body of a POST, PUT or PATCH, and the claim on its idempotency key where it has one.
pub struct Asked<T> {
    pub body: T,
    pub claim: idempotency::Claimed,
}

impl<T: DeserializeOwned> FromRequest<Api> for Asked<T> {
    /// A problem, or the answer that the first request got.
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Asked<T>, Response> {
        let (mut parts, body) = request.into_parts();
        let media_type = media_type(&parts);
        let mut limited = Request::new(body);
        // The limit of the body is among them.
        *limited.extensions_mut() = parts.extensions.clone();
        let bytes = read(limited).await.map_err(IntoResponse::into_response)?;
        // Before anything is kept for its idempotency key: it is as wrong the next time.
        if !bytes.is_empty() && !is_json(&media_type) {
            return Err(wrong_media_type().into_response());
        }
        let claim = idempotency::claim(api, &mut parts, &media_type, &bytes).await?;
        let body = parse(&bytes).map_err(IntoResponse::into_response)?;
        Ok(Asked { body, claim })
    }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body is over the limit of {BODY_LIMIT} bytes"),
        )),
        Ok(Err(_)) => Err(Problem::bad_request("body_unreadable", "the body did not come whole")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the body did not come within {} s", BODY_PATIENCE.as_secs()),
        )),
    }
}

fn wrong_media_type() -> Problem {
    let reason = "expected content-type: application/json";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", reason)
        .header(header::ACCEPT, header::HeaderValue::from_static("application/json"))
}

/// Without its parameters; empty when there is none, or no text.
fn media_type(parts: &Parts) -> String {
    let value = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// A JSON object; nothing at all is an empty one.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    // serde would take an array for an object, field by field.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| invalid_json(&error))?;
        return Err(Problem::field("body", "wrong_type", "expected a JSON object"));
    }
    let pointed = match from_json(bytes) {
        Err((_, true)) => without_points(&String::from_utf8_lossy(bytes)),
        parsed => return parsed.map_err(|(problem, _)| *problem),
    };
    from_json(pointed.as_bytes()).map_err(|(problem, _)| *problem)
}

/// Or what is wrong, and whether it is a number with a point where another type was expected.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, (Box<Problem>, bool)> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| (Box::new(wrong(&error)), error.inner().to_string().starts_with(FLOATING_POINT)))?;
    deserializer.end().map_err(|error| (Box::new(invalid_json(&error)), false))?;
    Ok(parsed)
}

/// How serde names a number with a point or an exponent where it expected another type.
const FLOATING_POINT: &str = "invalid type: floating point";
/// Up to here every whole number is one of 64 bits with a point, too.
const WHOLE_LIMIT: f64 = 9_007_199_254_740_992.0;

/// The same text with `284.0` as `284`: a whole number to JSON Schema, and so to clients that are made from ours.
fn without_points(text: &str) -> String {
    let (mut out, mut number) = (String::with_capacity(text.len()), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for letter in text.chars() {
        if !quoted && (letter.is_ascii_digit() || "+-.eE".contains(letter)) {
            number.push(letter);
            continue;
        }
        out.push_str(&whole(&number));
        number.clear();
        out.push(letter);
        quoted = if letter == '"' && !escaped { !quoted } else { quoted };
        escaped = quoted && letter == '\\' && !escaped;
    }
    out + &whole(&number)
}

fn whole(number: &str) -> Cow<'_, str> {
    let float = number.parse::<f64>().ok().filter(|_| number.contains(['.', 'e', 'E']));
    match float.filter(|float| float.fract() == 0.0 && float.abs() <= WHOLE_LIMIT) {
        Some(float) => Cow::Owned(format!("{float:.0}")),
        None => Cow::Borrowed(number),
    }
}

fn invalid_json(error: &serde_json::Error) -> Problem {
    let reason = format!("the body is not JSON: {}", error.to_string().replace(" at line", ", at line"));
    Problem::field("body", "invalid_json", reason.clone()).coded("invalid_json")
}

/// The field, what is wrong with it in one word, and in a sentence.
fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.inner();
    if !inner.is_data() {
        return invalid_json(inner);
    }
    let text = inner.to_string();
    // The place in the text is told by the field.
    let reason = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let at = match error.path().to_string() {
        whole if whole == "." => Cow::Borrowed(""),
        path => Cow::Owned(path),
    };
    let named = reason.split('`').nth(1).unwrap_or_default();
    let below = |name: &str| match at.rsplit('.').next() {
        Some(last) if last == name => at.to_string(),
        _ if at.is_empty() => name.to_owned(),
        _ => format!("{at}.{name}"),
    };
    let (code, path) = if reason.starts_with("unknown field") {
        ("unknown_field", below(named))
    } else if reason.starts_with("missing field") {
        ("missing_field", below(named))
    } else if reason.starts_with("duplicate field") {
        ("duplicate_field", below(named))
    } else if reason.starts_with("invalid type") {
        ("wrong_type", at.to_string())
    } else {
        ("invalid_value", at.to_string())
    };
    let path = if path.is_empty() { "body".to_owned() } else { path };
    Problem::field(path, code, reason)
}

/// Every field of a body that is wrong, told together.
#[derive(Default)]
pub struct Issues(Vec<FieldIssue>);

impl Issues {
    pub fn add(&mut self, path: impl Into<String>, code: &'static str, reason: impl Into<String>) {
        self.0.push(FieldIssue { code, reason: reason.into(), path: path.into() });
    }

    /// A text that people read: not empty, not long, on one line.
    pub fn name(&mut self, path: &str, text: &str) {
        if text.trim().is_empty() {
            self.add(path, "empty", "expected a text");
        } else if text.chars().count() > NAME_LIMIT {
            self.add(path, "too_long", format!("expected at most {NAME_LIMIT} characters"));
        } else if text.chars().any(char::is_control) {
            self.add(path, "invalid_value", "expected no control characters");
        }
    }

    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::validation(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "nodes")]
        _nodes: Vec<Id>,
        #[serde(default, rename = "inner")]
        _inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "deep")]
        _deep: bool,
    }

    fn told(text: &str) -> (String, String) {
        let body = parse::<Sample>(text.as_bytes()).unwrap_err().body("x");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        assert_eq!(body["field"], body["field_issues"][0]["path"]);
        (text(&body["field_issues"][0]["code"]), text(&body["field"]))
    }

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    #[serde(deny_unknown_fields)]
    struct Counted {
        seconds: u32,
        nodes: Vec<Id>,
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        let whole: Counted = parse(br#"{"seconds": 284.0, "nodes": [7, 2e3]}"#).unwrap();
        assert_eq!(whole, Counted { seconds: 284, nodes: vec![Id(7), Id(2000)] });
        for wrong in [
            r#"{"seconds": 284.5, "nodes": []}"#,
            r#"{"seconds": 1e300, "nodes": []}"#,
            r#"{"seconds": -1.0, "nodes": []}"#,
        ] {
            let problem = parse::<Counted>(wrong.as_bytes()).unwrap_err().body("x");
            let body: serde_json::Value = serde_json::from_str(&problem).unwrap();
            assert_eq!(body["field"], "seconds", "{wrong}");
        }
        assert!(parse::<Counted>(br#"{"seconds": 1.0, "seconds": 2, "nodes": []}"#).is_err());
        assert_eq!(
            without_points(r#"{"a.0 \" 1.0": [true, false, null, -3.0, 1.5, 2E1], "b": "7.0"}"#),
            r#"{"a.0 \" 1.0": [true, false, null, -3, 1.5, 20], "b": "7.0"}"#
        );
    }

    #[test]
    fn whatever_is_wrong_is_told_with_its_field() {
        for (body, code, field) in [
            ("", "missing_field", "name"),
            (r#"{"name":"a","nodes":[1,"2",true]}"#, "wrong_type", "nodes[2]"),
            (r#"{"name":"a","nodes":[1,0]}"#, "invalid_value", "nodes[1]"),
            (r#"{"name":"a","nodes":["-1"]}"#, "invalid_value", "nodes[0]"),
            (r#"{"name":7}"#, "wrong_type", "name"),
            (r#"{"name":"a","nme":1}"#, "unknown_field", "nme"),
            (r#"{"name":"a","inner":{"deep":true,"x":1}}"#, "unknown_field", "inner.x"),
            (r#"{"name":"a","inner":{}}"#, "missing_field", "inner.deep"),
            (r#"{"name":"a","name":"b"}"#, "duplicate_field", "name"),
            (r#"["a"]"#, "wrong_type", "body"),
            ("7", "wrong_type", "body"),
            (r#"{"name":"a"} x"#, "invalid_json", "body"),
            (r#"{"name":"#, "invalid_json", "body"),
            ("\u{feff}{}", "invalid_json", "body"),
        ] {
            assert_eq!(told(body), (code.to_owned(), field.to_owned()), "{body}");
        }
    }
}
