//! Masks an answer, whatever its kind, before anything else sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use warden_certificates::{certificates_in, is_certificate_name};
use warden_host::{Answer, Cause, Content, Data, Failure, LogLine, Request};
use warden_redact::{Redactor, Shape};

/// What stands in the place of an answer that could not be masked.
const WITHHELD: &str = "withheld: the redactor failed";

/// The answer without its secrets. An answer that the redactor fails on is withheld.
pub fn mask(redactor: &Redactor, request: &Request, answer: &Answer) -> Answer {
    guarded(&request.to_string(), || masked(redactor, request, answer))
}

/// A defect in the redactor costs the answer it met, never the bundle, and shows nothing of it.
fn guarded(what: &str, work: impl FnOnce() -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure { what: what.to_owned(), cause: Cause::Other(WITHHELD.to_owned()) }))
}

fn masked(redactor: &Redactor, request: &Request, answer: &Answer) -> Answer {
    let text = |shape, text: &str| redactor.redact(shape, text).into_owned();
    match answer {
        Err(failure) => Err(mask_failure(redactor, failure)),
        Ok(data) => Ok(match data.clone() {
            Data::Text(content) => {
                let path = path_of(request).unwrap_or_default();
                let shape = Shape::of_path(path);
                let text = match is_certificate_name(path) {
                    true => around_certificates(&content.text, |part| text(shape, part)),
                    false => text(shape, &content.text),
                };
                Data::Text(Content { text, ..content })
            }
            Data::Files { mut files, left_out, mut unread } => {
                for file in &mut files {
                    file.text = text(Shape::of_path(&file.path), &file.text);
                }
                unread.first = unread.first.map(|failure| mask_failure(redactor, &failure));
                Data::Files { files, left_out, unread }
            }
            Data::Samples(mut samples) => {
                for sample in &mut samples.files {
                    let shape = Shape::of_path(&sample.path);
                    for side in [&mut sample.first, &mut sample.second].into_iter().flatten() {
                        *side = text(shape, side);
                    }
                }
                Data::Samples(samples)
            }
            Data::Output(mut output) => {
                output.stdout = text(Shape::Plain, &output.stdout);
                output.stderr = text(Shape::Plain, &output.stderr);
                Data::Output(output)
            }
            Data::Log(mut log) => {
                mask_log(redactor, &mut log.lines);
                Data::Log(log)
            }
            Data::Http(mut answer) => {
                answer.body = text(Shape::Json, &answer.body);
                Data::Http(answer)
            }
            Data::Unit(mut unit) => {
                let json = serde_json::to_string(&unit.properties).unwrap_or_default();
                let masked = redactor.redact(Shape::UnitProperties, &json);
                // What does not come back whole is withheld: never the unmasked properties.
                unit.properties = serde_json::from_str(&masked).unwrap_or_default();
                Data::Unit(unit)
            }
            Data::Units { mut units } => {
                for unit in &mut units {
                    unit.description = text(Shape::Plain, &unit.description);
                }
                Data::Units { units }
            }
            Data::Link { target } => Data::Link { target: text(Shape::Plain, &target) },
            Data::Entries { mut entries, left_out } => {
                for entry in &mut entries {
                    entry.name = text(Shape::Plain, &entry.name);
                }
                Data::Entries { entries, left_out }
            }
            data @ (Data::Stat(_)
            | Data::Space(_)
            | Data::Uname(_)
            | Data::Clock(_)
            | Data::Settings(_)
            | Data::Tls(_)
            | Data::Addresses { .. }
            | Data::Connected { .. }
            | Data::PublicKey { .. }) => data,
        }),
    }
}

/// Masks what stands around whole certificates: they are public, and a character less makes them unusable to the
/// checks that judge them.
fn around_certificates(text: &str, mask: impl Fn(&str) -> String) -> String {
    let (mut masked, mut from) = (String::with_capacity(text.len()), 0);
    for block in certificates_in(text) {
        masked.push_str(&mask(&text[from..block.start]));
        masked.push_str(&text[block.clone()]);
        from = block.end;
    }
    masked + &mask(&text[from..])
}

/// A log is masked as one text, so that a key that spans lines is seen whole. Line breaks within a message
/// become spaces, which keeps lines and their times together.
fn mask_log(redactor: &Redactor, lines: &mut [LogLine]) {
    let joined: Vec<String> = lines.iter().map(|line| line.text.replace(['\n', '\r'], " ")).collect();
    let masked = redactor.redact(Shape::Log, &joined.join("\n")).into_owned();
    let parts: Vec<&str> = masked.split('\n').collect();
    let whole = parts.len() == lines.len();
    for (index, line) in lines.iter_mut().enumerate() {
        // Line by line where the masked text does not line up any more.
        line.text = if whole {
            parts[index].to_owned()
        } else {
            redactor.redact(Shape::Log, &joined[index]).into_owned()
        };
        line.origin = redactor.redact(Shape::Plain, &line.origin).into_owned();
    }
}

fn mask_failure(redactor: &Redactor, failure: &Failure) -> Failure {
    let text = |text: &str| redactor.redact(Shape::Plain, text).into_owned();
    let cause = match &failure.cause {
        Cause::Unavailable(detail) => Cause::Unavailable(text(detail)),
        Cause::Other(detail) => Cause::Other(text(detail)),
        Cause::Truncated(detail) => Cause::Truncated(text(detail)),
        cause @ (Cause::Absent | Cause::Denied | Cause::TimedOut | Cause::Unrecorded | Cause::Masked) => {
            cause.clone()
        }
    };
    Failure { what: text(&failure.what), cause }
}

fn path_of(request: &Request) -> Option<&str> {
    if let Request::File { path } | Request::Tail { path } = request.plain() { Some(path) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_redactor_fails_on_is_withheld_and_named() {
        let request = Request::File { path: "/etc/odd".to_owned() };
        let withheld = std::thread::Builder::new()
            .name("ask odd".to_owned())
            .spawn(move || guarded(&request.to_string(), || panic!("not a boundary of `hunter2`")))
            .unwrap()
            .join()
            .unwrap();
        let failure = withheld.unwrap_err();
        assert_eq!(failure.what, "/etc/odd");
        assert_eq!(failure.cause.to_string(), "withheld: the redactor failed");
    }

    #[test]
    fn what_can_be_masked_is_answered() {
        let answer = Ok(Data::Link { target: "postgres://bob:hunter2@db/x".to_owned() });
        let request = Request::Link { path: "/here".to_owned() };
        let masked = mask(&Redactor::new([1; 32]), &request, &answer).unwrap();
        assert!(
            matches!(masked, Data::Link { target } if target.starts_with("postgres://bob:[secret:url-userinfo:"))
        );
    }
}
