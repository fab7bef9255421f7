//! What holds for any secret in any surrounding: it goes, the rest stays valid, and masking again changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::test_rng::Draws;
use super::*;

const ROUNDS: usize = 2000;

fn pick<'a>(draws: &mut Draws, from: &[&'a str]) -> &'a str {
    from[draws.below(from.len())]
}

/// A value that no text has by chance, with letters and digits in it as secrets have.
fn canary(draws: &mut Draws) -> String {
    let letters = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let tail: String =
        (0..8 + draws.below(24)).map(|_| char::from(letters[draws.below(letters.len())])).collect();
    format!("cAn4rY{tail}")
}

/// A place that tells that its value is a secret.
fn place(draws: &mut Draws, canary: &str) -> String {
    let name = pick(
        draws,
        &[
            "password",
            "PASSWORD",
            "db_password",
            "IGGY_ROOT_PASSWORD",
            "api_key",
            "apiKey",
            "client-secret",
            "access_token",
            "encoding_secret",
            "secret_access_key",
            "passphrase",
        ],
    );
    let percent: String = canary.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let basic = STANDARD.encode(format!("user:{canary}"));
    match draws.below(16) {
        0 => format!("{name}={canary}"),
        1 => format!("{name}: {canary}"),
        2 => format!("{name} = \"{canary}\""),
        3 => format!("{name}='{canary}'"),
        4 => format!("\"{name}\":\"{canary}\""),
        5 => format!("{{\\\"{name}\\\":\\\"{canary}\\\"}}"),
        6 => format!("--{}={canary}", name.replace('_', "-")),
        7 => format!("--{} {canary}", name.replace('_', "-").to_lowercase()),
        8 => format!("postgres://bob:{canary}@db:5432/x"),
        9 => format!("amqp://bob:{percent}@mq/"),
        10 => format!("Authorization: Bearer {canary}"),
        11 => format!("Authorization: Basic {basic}"),
        12 => format!("proxy-authorization: basic {basic}"),
        13 => format!("<{name}>{canary}</{name}>"),
        14 => format!("?x=1&{name}={canary}&y=2"),
        _ => format!("{name} => Some(\"{canary}\")"),
    }
}

/// What may stand around it, or hide in it.
fn wrapped(draws: &mut Draws, place: &str) -> String {
    match draws.below(9) {
        0 => place.to_owned(),
        1 => format!("\u{feff}{place}"),
        2 => format!("{place}\r"),
        3 => format!("\u{1b}[31m{place}\u{1b}[0m"),
        4 => place.replacen('=', "\u{1b}[0m\u{1b}[2m=\u{1b}[0m", 1),
        5 => format!("\0{place}\0"),
        6 => format!("INFO (\"{}\")", place.replace('"', "'")),
        7 => format!("\u{200b}{place} ünï¢ode"),
        _ => format!("2026-11-21T10:30:53.843359Z  INFO main a::b: {place}"),
    }
}

#[test]
fn no_secret_survives_wherever_it_stands() {
    let mut draws = Draws::new(0xcafe_f00d);
    let words =
        ["started", "shard=1", "GET /stats 200", "key=orders", "x::y:", "\"quoted\"", "a,b;c", "(1)", "ünï"];
    for round in 0..ROUNDS {
        let canary = canary(&mut draws);
        let place = place(&mut draws, &canary);
        let mut lines: Vec<String> =
            (0..draws.below(4)).map(|_| pick(&mut draws, &words).to_owned()).collect();
        let secret = wrapped(&mut draws, &place);
        lines.insert(draws.below(lines.len() + 1), secret);
        let text = lines.join(pick(&mut draws, &["\n", "\r\n"]));
        let redactor = Redactor::new([9; 32]);
        let shape = if draws.below(2) == 0 { Shape::Log } else { Shape::Plain };
        let masked = redactor.redact(shape, &text).into_owned();
        let basic = STANDARD.encode(format!("user:{canary}"));
        let percent: String = canary.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for form in [&canary, &basic, &percent] {
            assert!(!masked.contains(form.as_str()), "{round} {text:?} -> {masked:?}");
        }
        assert_eq!(
            masked.matches('\n').count(),
            text.matches('\n').count(),
            "{round} {text:?} -> {masked:?}"
        );
        assert_eq!(redactor.redact(shape, &masked), masked, "{round} {text:?}");
        // Known by now, it is found without its name too.
        if redactor.hits(canary.as_bytes()) == 0 {
            assert!(place.contains("asic "), "{round} {text:?}");
        }
        let mut out = Vec::new();
        redactor.copy(shape, text.as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), masked, "{round}");
    }
}

/// A tree of settings, some of which are secret, and the values that are not.
fn tree(
    draws: &mut Draws,
    depth: usize,
    kept: &mut Vec<String>,
    secrets: &mut Vec<String>,
) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for at in 0..1 + draws.below(5) {
        let canary = canary(draws);
        match draws.below(7) {
            0 => {
                let odd = pick(draws, &["", " \" ", "\\", "\n", "\u{1b}[0m", "ü", "/", "'", "#", "\t"]);
                object.insert(format!("password_{at}"), format!("{canary}{odd}").into());
                secrets.push(canary);
            }
            1 => {
                object.insert(
                    pick(draws, &["api_key", "client_secret", "token"]).to_owned(),
                    canary.clone().into(),
                );
                secrets.push(canary);
            }
            2 => {
                object.insert("uri".to_owned(), format!("postgres://u:{canary}@db/x").into());
                secrets.push(canary);
            }
            3 if depth > 0 => {
                object.insert(format!("table{at}"), tree(draws, depth - 1, kept, secrets));
            }
            4 => {
                object.insert(format!("numbers{at}"), serde_json::json!([1, 2, at, true]));
            }
            5 => {
                object.insert("password".to_owned(), (12_345_678 + at).into());
            }
            _ => {
                let value = pick(draws, &["orders", "/var/lib/iggy", "1 h", "sha256:e3b0c442", "ünï \"q\""]);
                object.insert(format!("name{at}"), value.into());
                kept.push(value.to_owned());
            }
        }
    }
    serde_json::Value::Object(object)
}

fn strings(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        serde_json::Value::Object(object) => object.values().for_each(|item| strings(item, found)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[test]
fn masked_json_and_toml_stay_what_they_are_and_lose_only_their_secrets() {
    let mut draws = Draws::new(0xbead_5eed);
    for round in 0..ROUNDS / 4 {
        let (mut kept, mut secrets) = (Vec::new(), Vec::new());
        let tree = tree(&mut draws, 3, &mut kept, &mut secrets);
        let toml = ::toml::to_string(&tree).unwrap();
        let json = serde_json::to_string(&tree).unwrap();
        let pretty = serde_json::to_string_pretty(&tree).unwrap();
        for (shape, text) in [(Shape::Json, &json), (Shape::Json, &pretty), (Shape::Toml, &toml)] {
            let redactor = Redactor::new([9; 32]);
            let masked = redactor.redact(shape, text).into_owned();
            let read: serde_json::Value = match shape {
                Shape::Toml => ::toml::from_str(&masked)
                    .unwrap_or_else(|error| panic!("{round} {error}\n{text}\n{masked}")),
                Shape::Log
                | Shape::Plain
                | Shape::Json
                | Shape::Yaml
                | Shape::Environ
                | Shape::Arguments
                | Shape::UnitProperties => serde_json::from_str(&masked)
                    .unwrap_or_else(|error| panic!("{round} {error}\n{text}\n{masked}")),
            };
            let mut found = Vec::new();
            strings(&read, &mut found);
            for secret in &secrets {
                assert!(!masked.contains(secret.as_str()), "{round} {secret}\n{text}\n{masked}");
            }
            for value in &kept {
                assert!(found.contains(value), "{round} {value}\n{text}\n{masked}");
            }
            assert_eq!(masked.matches('\n').count(), text.matches('\n').count(), "{round}");
            assert_eq!(redactor.redact(shape, &masked), masked, "{round}");
            assert!(!masked.contains("1234567"), "{round} {masked}");
        }
    }
}
