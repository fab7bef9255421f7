//! What went wrong, as application/problem+json (RFC 9457) in the shape that clients of the API branch on.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that is no success. It gets its `instance` where every response gets its request id.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    code: &'static str,
    reason: String,
    issues: Vec<FieldIssue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log alone.
    cause: Option<String>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"code": "too_long", "reason": "expected at most 100 characters", "path": "name"}))]
pub struct FieldIssue {
    /// Stable, to branch on: `missing_field`, `unknown_field`, `wrong_type`, `invalid_value`, ...
    pub code: &'static str,
    pub reason: String,
    /// The field, as `nodes[0]`; of a query or path its parameter; of a header its name.
    pub path: String,
}

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "about:blank", "title": "Not Found", "code": "deployment_not_found",
    "reason": "there is no such deployment, or it is not yours to see",
    "instance": "5f0c7b1c9a834d1d8d5fbb6c0f7e2a11", "status": 404, "retryable": false
}))]
pub struct ProblemBody<'a> {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'a str,
    /// Stable, in snake_case: what to branch on.
    pub code: &'a str,
    /// A sentence for a person.
    pub reason: &'a str,
    /// The id of the request: the header `ld-request`, and in the Supervisor's log.
    pub instance: &'a str,
    pub status: u16,
    /// Whether the same request may do better later.
    pub retryable: bool,
    /// Of a validation: the first field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// Of a validation: every field that is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub field_issues: &'a [FieldIssue],
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, reason: impl Into<String>) -> Problem {
        let reason = reason.into();
        Problem { status, code, reason, issues: Vec::new(), headers: Vec::new(), cause: None }
    }

    pub fn bad_request(code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, reason)
    }

    pub fn not_found(code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, code, reason)
    }

    pub fn forbidden(reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "permission_denied", reason)
    }

    pub fn conflict(code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, code, reason)
    }

    /// It is ours; the cause goes into the log and no further.
    pub fn internal(cause: impl std::fmt::Display) -> Problem {
        let reason = "the Supervisor failed; its log tells more under this request id";
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", reason);
        Problem { cause: Some(cause.to_string()), ..problem }
    }

    pub fn unavailable(cause: impl std::fmt::Display) -> Problem {
        let reason = "the store does not answer; try again";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", reason);
        Problem { cause: Some(cause.to_string()), ..problem }.retry_after(1)
    }

    /// The disk of the store is full, or fails.
    pub fn no_room(cause: impl std::fmt::Display) -> Problem {
        let reason =
            "the store cannot write: its disk is full or fails, and nothing was changed; make room there";
        Problem { reason: reason.to_owned(), ..Problem::unavailable(cause) }
    }

    /// Fields that are wrong. The first gives the reason.
    pub fn validation(issues: Vec<FieldIssue>) -> Problem {
        let reason = match issues.as_slice() {
            [] => "the request is wrong".to_owned(),
            [only] => format!("{}: {}", only.path, only.reason),
            [first, rest @ ..] => format!("{}: {}, and {} more", first.path, first.reason, rest.len()),
        };
        Problem { issues, ..Problem::bad_request("validation_error", reason) }
    }

    pub fn field(path: impl Into<String>, code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::validation(vec![FieldIssue { code, reason: reason.into(), path: path.into() }])
    }

    /// Another code than `validation_error`.
    pub fn coded(self, code: &'static str) -> Problem {
        Problem { code, ..self }
    }

    pub fn retry_after(self, seconds: u64) -> Problem {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub fn is_retryable(&self) -> bool {
        matches!(self.status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
    }

    pub fn body(&self, instance: &str) -> String {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            code: self.code,
            reason: &self.reason,
            instance,
            status: self.status.as_u16(),
            retryable: self.is_retryable(),
            field: self.issues.first().map(|issue| issue.path.as_str()),
            field_issues: &self.issues,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The whole response for the request `instance`.
    pub fn respond(&self, instance: &str) -> Response {
        let mut response = Response::new(Body::from(self.body(instance)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.extend(self.headers.iter().cloned());
        response
    }
}

pub const CONTENT_TYPE: &str = "application/problem+json";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        use sqlx::Error::{
            BeginFailed, InvalidSavePointStatement, Io, PoolClosed, PoolTimedOut, Tls, WorkerCrashed,
        };
        // The last two: of a connection that is replaced.
        let away = matches!(
            error,
            PoolTimedOut
                | PoolClosed
                | Io(_)
                | Tls(_)
                | WorkerCrashed
                | BeginFailed
                | InvalidSavePointStatement
        );
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.map_or(Fault::Other, |code| fault(&code)) {
            Fault::Disk => Problem::no_room(error),
            Fault::Passing => Problem::unavailable(error),
            Fault::Other if away => Problem::unavailable(error),
            Fault::Other => Problem::internal(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// Full, or it fails.
    Disk,
    Passing,
    Other,
}

/// PostgreSQL's codes (its manual, appendix A) have five characters. SQLite's (sqlite.org/rescode.html) are numbers, the
/// kind in the lowest byte.
fn fault(code: &str) -> Fault {
    match code {
        // disk_full, io_error
        "53100" | "58030" => Fault::Disk,
        // deadlock_detected, serialization_failure, admin_shutdown, crash_shutdown, cannot_connect_now, out_of_memory,
        // too_many_connections
        "40P01" | "40001" | "57P01" | "57P02" | "57P03" | "53200" | "53300" => Fault::Passing,
        _ if code.len() >= 5 => Fault::Other,
        _ => match code.parse::<u32>().map(|code| code & 0xff) {
            // IOERR, FULL, CANTOPEN
            Ok(10 | 13 | 14) => Fault::Disk,
            // BUSY, LOCKED
            Ok(5 | 6) => Fault::Passing,
            _ => Fault::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_a_mistake_of_ours_on_either_store() {
        for code in ["53100", "58030", "13", "10", "778", "4874", "14"] {
            assert_eq!(fault(code), Fault::Disk, "{code}");
        }
        for code in ["40P01", "53300", "5", "261", "6"] {
            assert_eq!(fault(code), Fault::Passing, "{code}");
        }
        for code in ["23505", "42P01", "1", "787", "2067", "11", ""] {
            assert_eq!(fault(code), Fault::Other, "{code}");
        }
    }
}
