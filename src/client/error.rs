//! What a call may come back with when it was not done.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Why a call was not done, or why nobody knows.
#[derive(Debug)]
pub enum Failure {
    /// The Supervisor said no.
    Refused(Box<Refusal>),
    /// No connection came to be: nothing was sent.
    Unreachable { server: String, cause: String },
    /// The call was sent and no answer came back: it may have been done.
    Lost { server: String, cause: String },
    /// Something answered that is no Supervisor.
    Foreign { server: String, what: String },
}

#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub problem: Problem,
    /// The header `retry-after`.
    pub retry_after: Option<Duration>,
    /// The header `ld-request`: names this call in the Supervisor's log.
    pub request: Option<String>,
}

/// application/problem+json, as far as it is told to a person.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub title: String,
    pub code: String,
    pub reason: String,
    pub retryable: Option<bool>,
    pub field_issues: Vec<FieldIssue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldIssue {
    pub code: String,
    pub reason: String,
    pub path: String,
}

impl Failure {
    /// Whether the other side may be back in a while, with what was asked for untouched.
    pub fn is_outage(&self) -> bool {
        match self {
            Failure::Unreachable { .. } | Failure::Lost { .. } => true,
            Failure::Refused(refusal) => refusal.is_for_now(),
            Failure::Foreign { .. } => false,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.status == 404)
    }
}

impl Refusal {
    /// Whether the same call may be answered otherwise later.
    pub fn is_for_now(&self) -> bool {
        // The first of two equal calls still runs: its answer can be had in a moment.
        self.problem.code == "idempotent_request_in_progress"
            || self
                .problem
                .retryable
                .unwrap_or(matches!(self.status, 408 | 425 | 429 | 500 | 502 | 503 | 504))
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refusal) => refusal.fmt(formatter),
            Failure::Unreachable { server, cause } => write!(formatter, "cannot reach {server}: {cause}"),
            Failure::Lost { server, cause } => {
                write!(formatter, "no answer came back from {server}, it may be done all the same: {cause}")
            }
            Failure::Foreign { server, what } => {
                write!(formatter, "{server} does not answer as a Supervisor does: {what}; look at the URL")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, code, reason, field_issues, .. } = &self.problem;
        let sentence = [reason, title].into_iter().find(|text| !text.is_empty());
        formatter.write_str(sentence.map_or("the Supervisor refused without a reason", String::as_str))?;
        if self.status == 401 {
            formatter.write_str("; give a valid key by WARDEN_API_KEY, --key-file or the profile")?;
        }
        formatter.write_str(" (")?;
        if !code.is_empty() {
            write!(formatter, "{code}, ")?;
        }
        write!(formatter, "status {}", self.status)?;
        if let Some(request) = &self.request {
            write!(formatter, ", ld-request {request}")?;
        }
        formatter.write_str(")")?;
        // A single one is what the sentence says already.
        for FieldIssue { code, reason, path } in field_issues.iter().filter(|_| field_issues.len() > 1) {
            write!(formatter, "\n{path}: {reason} ({code})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        let problem = serde_json::from_str(body).unwrap();
        Refusal { status, problem, retry_after: None, request: Some("0f".repeat(16)) }
    }

    #[test]
    fn a_refusal_tells_reason_fields_code_and_request() {
        let refusal = refusal(
            400,
            r#"{"type":"about:blank","title":"Bad Request","code":"validation_error","reason":"a: no, and 1 more",
                "field_issues":[{"code":"x","reason":"no","path":"a"},{"code":"y","reason":"too long","path":"b"}]}"#,
        );
        assert_eq!(
            refusal.to_string(),
            "a: no, and 1 more (validation_error, status 400, ld-request 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f)\n\
             a: no (x)\nb: too long (y)"
        );
        assert!(!refusal.is_for_now());
    }

    #[test]
    fn without_a_valid_key_it_says_where_one_is_taken_from() {
        let told = refusal(401, r#"{"code":"unauthorized","reason":"the API key is not valid"}"#).to_string();
        assert!(told.starts_with("the API key is not valid; give a valid key by WARDEN_API_KEY,"), "{told}");
    }

    #[test]
    fn the_supervisor_itself_says_whether_to_try_again() {
        assert!(refusal(503, "{}").is_for_now() && !refusal(503, r#"{"retryable":false}"#).is_for_now());
        assert!(refusal(409, r#"{"code":"idempotent_request_in_progress"}"#).is_for_now());
        assert!(!refusal(409, r#"{"code":"idempotency_error"}"#).is_for_now());
    }
}
