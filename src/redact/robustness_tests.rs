//! What holds for any text: nothing panics, what is masked stays, and known values are found in every form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::corpus::{LOOKALIKES, secrets};
use super::test_rng::Draws;
use super::*;

const SHAPES: [Shape; 8] = [
    Shape::Log,
    Shape::Plain,
    Shape::Toml,
    Shape::Json,
    Shape::Yaml,
    Shape::Environ,
    Shape::Arguments,
    Shape::UnitProperties,
];

fn redactor() -> Redactor {
    Redactor::new([9; 32])
}

#[test]
fn no_text_makes_it_panic_and_masking_twice_is_masking_once() {
    let pieces = [
        "password",
        "=",
        ":",
        " ",
        "\"",
        "'",
        "\\",
        "\n",
        "\r",
        "\0",
        "[secret:",
        "[secret:jwt:01234567]",
        "://",
        "@",
        "{",
        "}",
        "[",
        "]",
        ",",
        "-p",
        " -p ",
        "--token",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "eyJ",
        "ä",
        "€",
        "\u{1b}[0m",
        "\u{1b}",
        "\u{feff}",
        "#033[",
        "plugin_config",
        "\"\"\"",
        "key",
        "Authorization",
        "Bearer ",
        "iggy",
        "%22",
        "hunter2",
        "A1b2C3d4E5f6G7h8I9j0K1l2",
        "- ",
        "|",
        "  ",
        "sig=",
        "@tcp(",
        ":::",
        "$6$",
        "value changed to: ",
        "😀",
        "null",
        "12345678",
    ];
    let mut draws = Draws::new(0x9e37_79b9_7f4a_7c15);
    let redactor = redactor();
    for round in 0..1500 {
        let count = 1 + draws.below(14);
        let text: String = (0..count).map(|_| pieces[draws.below(pieces.len())]).collect();
        for shape in SHAPES {
            let once = redactor.redact(shape, &text).into_owned();
            assert_eq!(once.matches('\n').count(), text.matches('\n').count(), "{round} {shape:?} {text:?}");
            let twice = redactor.redact(shape, &once).into_owned();
            assert_eq!(twice, once, "{shape:?} {text:?}");
        }
    }
    // The search is built from whatever the texts left behind.
    let _ = redactor.hits(b"anything");
}

#[test]
fn corpus_texts_cut_anywhere_never_panic() {
    let redactor = redactor();
    let texts = secrets().into_iter().map(|(shape, text, _)| (shape, text));
    for (shape, text) in texts.chain(LOOKALIKES.iter().map(|(shape, text)| (*shape, (*text).to_owned()))) {
        for (at, _) in text.char_indices().step_by(3) {
            let _ = redactor.redact(shape, &text[..at]);
            let _ = redactor.redact(shape, &text[at..]);
        }
    }
}

#[test]
fn a_value_seen_once_is_swept_wherever_and_however_it_stands() {
    let redactor = redactor();
    let secret = "Tr0ub\"4d&r/x";
    assert!(redactor.redact(Shape::Log, &format!("password='{secret}'")).contains("[secret:password:"));
    let json = serde_json::to_string(secret).unwrap();
    let shifted = (0..3).map(|blanks| STANDARD.encode(format!("{}{secret}!", " ".repeat(blanks))));
    let mut forms = vec![
        format!("plain {secret} text"),
        format!("{{\"a\":{json}}}"),
        format!("{{\"a\":{}}}", serde_json::to_string(&json).unwrap()),
        "q=Tr0ub%224d%26r%2Fx&b".to_owned(),
        "q=Tr0ub%224d%26r%2fx&b".to_owned(),
        "<td>Tr0ub&quot;4d&amp;r/x</td>".to_owned(),
        "glued".to_owned() + secret + "glued",
    ];
    forms.extend(shifted);
    for form in &forms {
        assert!(redactor.hits(form.as_bytes()) > 0, "{form}");
        let swept = redactor.sweep(form).into_owned();
        assert_eq!(redactor.hits(swept.as_bytes()), 0, "{form} -> {swept}");
        assert_eq!(redactor.sweep(&swept), swept, "{form}");
    }
    let token = redactor.redact(Shape::Log, &format!("password='{secret}'")).into_owned();
    assert!(redactor.sweep(secret).contains(&token[token.len() - 10..token.len() - 2]), "{token}");
    assert_eq!(redactor.receipt().swept, 2 * forms.len() as u64 - forms.len() as u64 + 1);
}

#[test]
fn a_number_that_is_swept_out_of_json_leaves_json() {
    let redactor = redactor();
    redactor.redact(Shape::Log, "password=4711471147");
    for text in [
        "{\"a\":4711471147,\"b\":[4711471147, 1]}",
        "{\"t\":\"{\\\"n\\\": 4711471147}\"}",
        "{\"t\":\"x 4711471147\"}",
    ] {
        let swept = redactor.sweep(text).into_owned();
        let value: serde_json::Value = serde_json::from_str(&swept).unwrap();
        if let Some(inner) = value["t"].as_str().filter(|inner| inner.starts_with('{')) {
            assert!(serde_json::from_str::<serde_json::Value>(inner).is_ok(), "{swept}");
        }
        assert_eq!(redactor.hits(swept.as_bytes()), 0, "{swept}");
    }
}

#[test]
fn short_values_common_words_and_untelling_environments_are_not_swept() {
    let redactor = redactor();
    redactor.redact(
        Shape::Environ,
        "IGGY_ROOT_PASSWORD=iggy\0DB_PASSWORD=changeit\0REGION=eu-central\0PIN_PASSWORD=123456\0",
    );
    redactor.redact(Shape::Toml, "[plugin_config]\ntable = \"iggy_messages\"\n");
    let text = "iggy changeit eu-central 123456 iggy_messages";
    assert_eq!(redactor.sweep(text), text);
    assert_eq!((redactor.hits(text.as_bytes()), redactor.receipt().values), (0, 0));
}

#[test]
fn the_receipt_counts_and_debug_shows_no_secret() {
    let redactor = redactor();
    redactor.redact(Shape::Log, "password=hunter2 token=abcdefgh\npassword=hunter2");
    let receipt = redactor.receipt();
    assert_eq!(receipt.counts, BTreeMap::from([("password".to_owned(), 2), ("token".to_owned(), 1)]));
    assert_eq!((receipt.values, receipt.values_not_kept), (2, 0));
    assert_eq!(
        serde_json::to_string(&receipt).unwrap(),
        r#"{"counts":{"password":2,"token":1},"swept":0,"values":2,"values_not_kept":0}"#
    );
    let shown = format!("{redactor:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("abcdefgh") && !shown.contains("[9"), "{shown}");
}

#[test]
fn memory_for_known_values_is_bounded() {
    let redactor = redactor();
    for round in 0..400 {
        redactor.redact(Shape::Log, &format!("password={round}{}", "x1".repeat(1000)));
    }
    let receipt = redactor.receipt();
    assert_eq!((receipt.counts["password"], receipt.values + receipt.values_not_kept), (400, 400));
    assert!(receipt.values_not_kept > 200, "{receipt:?}");
}

#[test]
fn threads_share_it() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&redactor());
}

#[test]
fn hostile_lines_take_linear_time() {
    // One phrase begins everywhere in a line; a reader worse than quadratic never ends.
    let redactor = redactor();
    for piece in [
        "password",
        "password=",
        "://",
        "a://b:",
        "key ",
        "\"",
        "[",
        "{\"a\":",
        "eyJ.",
        "-----BEGIN ",
        "-p ",
        " -p",
        "[secret:",
        "$6$",
        "\\",
        ":::",
        "Some(",
        "bearer ",
        "@tcp(",
    ] {
        let text = piece.repeat(10_000 / piece.len());
        for shape in [Shape::Log, Shape::Toml, Shape::Json, Shape::Yaml, Shape::Arguments] {
            let _ = redactor.redact(shape, &text);
        }
    }
}
