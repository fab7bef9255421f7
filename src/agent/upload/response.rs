//! What the answer of an object store means for an upload.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use warden_platform::tls;

use super::Failure;

/// Longest Retry-After that is obeyed; a store that says more is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

const HOW_TO_TRUST: &str = "that of the Supervisor is named as agent.ca_file or at enrolment, that of a store beside it \
                            must be among those of this host (update-ca-certificates)";

pub(super) enum Answer {
    Taken { etag: String },
    Not(Setback),
}

/// Worth another try.
pub(super) enum Setback {
    /// The address ran out, or was never good.
    Forbidden,
    Later {
        after: Option<Duration>,
        why: String,
    },
}

/// Reads it; none came when the connection stood still. Addresses are secrets, so no error tells one.
pub(super) fn read(answer: Option<reqwest::Result<Response>>) -> Result<Answer, Failure> {
    let response = match answer {
        None => return Ok(later("nothing moved any more".to_owned(), None)),
        Some(Err(error)) => {
            let error = error.without_url();
            let words = tls::words(&error, HOW_TO_TRUST);
            let why = words.unwrap_or_else(|| format!("{:#}", anyhow::Error::new(error)));
            return Ok(later(why, None));
        }
        Some(Ok(response)) => response,
    };
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    match response.status() {
        status if status.is_success() => {
            Ok(Answer::Taken { etag: header(header::ETAG).unwrap_or_default().to_owned() })
        }
        StatusCode::FORBIDDEN => Ok(Answer::Not(Setback::Forbidden)),
        StatusCode::NOT_FOUND => Err(Failure::NotFound),
        StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::TooLarge),
        status => {
            let after = header(header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
            let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
            Ok(later(format!("the object store answered {status}"), after))
        }
    }
}

fn later(why: String, after: Option<Duration>) -> Answer {
    Answer::Not(Setback::Later { after, why })
}
