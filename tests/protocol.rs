//! The messages of the websocket are held against golden files: what was once sent must be understood for ever.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use warden::protocol::*;

const FROM_NODE: &str = include_str!("wire/from_node.v1.jsonl");
const TO_NODE: &str = include_str!("wire/to_node.v1.jsonl");

#[test]
fn every_golden_message_is_read_and_written_as_it_stands() {
    assert_eq!(types_that_survive::<FromNode>(FROM_NODE).len(), 9);
    assert_eq!(types_that_survive::<ToNode>(TO_NODE).len(), 9);
}

#[test]
fn a_field_of_a_newer_version_is_skipped() {
    let message = r#"{"v":1,"type":"settled","request":7,"since":"2.0"}"#;
    assert_eq!(decode::<ToNode>(message), Ok(ToNode::Settled { request: 7 }));
    let message = r#"{"v":1,"type":"refused","code":"quota","reason":"too many nodes"}"#;
    let refused = ToNode::Refused { code: Refusal::Other, reason: "too many nodes".into() };
    assert_eq!(decode::<ToNode>(message), Ok(refused));
}

#[test]
fn another_version_a_torn_and_an_oversized_message_are_told_apart() {
    assert_eq!(decode::<ToNode>(r#"{"v":2,"type":"settled","request":7}"#), Err(Error::Version(2)));
    let torn = decode::<ToNode>(r#"{"v":1,"type":"settled","requ"#);
    assert_eq!(torn, Err(Error::Malformed("Eof error at column 29".into())));
    let huge = format!(r#"{{"v":1,"type":"settled","request":7,"x":"{}"}}"#, "x".repeat(MESSAGE_LIMIT));
    assert_eq!(decode::<ToNode>(&huge), Err(Error::TooLarge(huge.len())));
    let huge = FromNode::Progress { request: 1, step: "x".repeat(MESSAGE_LIMIT) };
    assert!(matches!(encode(&huge), Err(Error::TooLarge(_))));
}

#[test]
fn an_error_never_repeats_what_was_sent() {
    let Err(error) = decode::<FromNode>(r#"{"v":1,"type":"accepted","request":"s3cret-canary"}"#) else {
        panic!("a text is no request id");
    };
    assert!(!error.to_string().contains("canary"), "{error}");
}

fn types_that_survive<T: Serialize + DeserializeOwned>(golden: &str) -> BTreeSet<String> {
    golden
        .lines()
        .map(|line| {
            let message: T = decode(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let written: serde_json::Value = serde_json::from_str(&encode(&message).unwrap()).unwrap();
            assert_eq!(written, value, "{line}");
            value["type"].as_str().unwrap().to_owned()
        })
        .collect()
}
