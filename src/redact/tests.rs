//! The redactor as a whole: its corpus, and what holds for any text.

use super::corpus::{LOOKALIKES, ORDINARY, published, secrets};
use super::*;

fn redactor() -> Redactor {
    Redactor::new([7; 32])
}

/// What of a corpus was missed or touched, and its figures printed.
fn measure(name: &str, secrets: &[(Shape, String, String)], alike: &[(Shape, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (shape, text, secret) in secrets {
        let masked = redactor().redact(*shape, text).into_owned();
        if masked.contains(secret) || !masked.contains("[secret:") {
            wrong.push(format!("missed {shape:?} {text:?} -> {masked:?}"));
        }
    }
    let missed = wrong.len();
    for (shape, text) in alike {
        let masked = redactor().redact(*shape, text);
        if masked != *text {
            wrong.push(format!("touched {shape:?} {text:?} -> {masked:?}"));
        }
    }
    let (found, touched) = (secrets.len() - missed, wrong.len() - missed);
    println!(
        "{name}: recall {found} of {} ({:.1} %), look-alikes untouched {} of {}, precision {:.1} %",
        secrets.len(),
        100.0 * found as f64 / secrets.len() as f64,
        alike.len() - touched,
        alike.len(),
        100.0 * found as f64 / (found + touched) as f64
    );
    wrong
}

#[test]
fn every_secret_of_the_corpus_is_masked_and_every_look_alike_is_untouched() {
    let secrets = secrets();
    assert!(secrets.len() >= 120 && LOOKALIKES.len() >= 120, "{} and {}", secrets.len(), LOOKALIKES.len());
    let wrong = measure("first corpus", &secrets, LOOKALIKES);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_published_form_is_masked_and_every_ordinary_text_is_untouched() {
    let published = published();
    assert!(published.len() >= 200 && ORDINARY.len() >= 100, "{} and {}", published.len(), ORDINARY.len());
    let wrong = measure("second corpus", &published, ORDINARY);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn masking_again_changes_nothing_and_lines_stay_lines() {
    for (shape, text, _) in secrets() {
        let once = redactor().redact(shape, &text).into_owned();
        let redactor = redactor();
        let twice = redactor.redact(shape, &once);
        assert_eq!(once, twice, "{shape:?} {text:?}");
        assert_eq!(text.matches('\n').count(), once.matches('\n').count(), "{text:?} -> {once:?}");
    }
}

#[test]
fn masked_json_is_json_and_its_secrets_are_strings() {
    for (shape, text, _) in secrets() {
        if matches!(shape, Shape::Json | Shape::UnitProperties) {
            let masked = redactor().redact(shape, &text).into_owned();
            assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{masked}");
        }
    }
    let masked = redactor().redact(Shape::Json, "{\"password\": 12345678, \"n\": 5}").into_owned();
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    assert!(value["password"].is_string() && value["n"] == 5, "{masked}");
    let line = redactor().redact(Shape::Log, "{\"a\":\"{\\\"password\\\":12345678}\"}").into_owned();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(value["a"].as_str().unwrap()).is_ok(), "{line}");
}

#[test]
fn equal_secrets_have_equal_digits_in_every_shape() {
    let redactor = redactor();
    let digits = |shape, text: &str| {
        let masked = redactor.redact(shape, text).into_owned();
        let end = masked.rfind("]").unwrap();
        masked[end - 8..end].to_owned()
    };
    let expected = digits(Shape::Log, "password=p@ss/w0rd");
    for (shape, text) in [
        (Shape::Log, "postgres://bob:p%40ss%2Fw0rd@db/x"),
        (Shape::Json, "{\"password\":\"p@ss\\/w0rd\"}"),
        (Shape::Toml, "password = \"p@ss/w0rd\""),
        (Shape::Yaml, "token: p@ss/w0rd"),
        (Shape::Environ, "IGGY_ROOT_PASSWORD=p@ss/w0rd\0"),
        (Shape::Arguments, "iggy\0-p\0p@ss/w0rd\0"),
        (Shape::Log, "password=p@\u{1b}[0mss/w0rd"),
    ] {
        assert_eq!(digits(shape, text), expected, "{text}");
    }
}

#[test]
fn the_rule_and_what_surrounds_a_secret_stay_readable() {
    let shown = |shape, text: &str| {
        let masked = redactor().redact(shape, text).into_owned();
        let mut out = String::new();
        let mut rest = masked.as_str();
        while let Some(at) = rest.find("[secret:") {
            let length = placeholders::token_length(&rest.as_bytes()[at..]).unwrap();
            out.push_str(&rest[..at]);
            out.push_str(&format!("<{}>", &rest[at + 8..at + length - 10]));
            rest = &rest[at + length..];
        }
        out + rest
    };
    assert_eq!(shown(Shape::Log, "http://otel:pw@h:1/v1 up"), "http://otel:<url-userinfo>@h:1/v1 up");
    assert_eq!(
        shown(Shape::Log, "WARN Generated root user password: abc\n"),
        "WARN Generated root user password: <iggy-password>\n"
    );
    assert_eq!(shown(Shape::Log, "Authorization: Bearer abc.def"), "Authorization: Bearer <bearer>");
    assert_eq!(
        shown(Shape::Toml, "[plugin_config]\na = 1 # one\nb = [\"x\", 2]\nc = true\n[b]\nd = 1\n"),
        "[plugin_config]\na = \"<connector-config>\" # one\nb = [\"<connector-config>\", \"<connector-config>\"]\nc = \"<connector-config>\"\n[b]\nd = 1\n"
    );
    assert_eq!(
        shown(Shape::Environ, "A=b\0PATH=/bin\0IGGY_PASSWORD=x\0"),
        "A=<environment>\0PATH=/bin\0IGGY_PASSWORD=<iggy-password>\0"
    );
    assert_eq!(
        shown(Shape::Arguments, "iggy\0-u\0bob\0-p\0x\0ping\0"),
        "iggy\0-u\0bob\0-p\0<password>\0ping\0"
    );
    assert_eq!(
        shown(Shape::Yaml, "a:\n  password: x y # why\n  b: 1\n"),
        "a:\n  password: \"<password>\" # why\n  b: 1\n"
    );
    assert_eq!(
        shown(Shape::Log, "Server=db;Password=a;b;Encrypt=true"),
        "Server=db;Password=<password>;Encrypt=true"
    );
}

#[test]
fn what_stands_in_a_secrets_place_stays_and_a_secret_that_looks_like_it_does_not() {
    for harmless in [
        "password = [FILTERED]",
        "secret = \"%env(APP_SECRET)%\"",
        "requirepass %%REDIS_PASSWORD%%",
        "db.password=@db.password@",
        "password = ENC[GPG,redacted]",
        "UPDATE users SET password = $1 WHERE id = $2",
        "old_passwords=0",
        "postgres://USER:PASSWORD@HOST:5432/DB",
        "--password=PASSWORD   password of the user",
        "token = \"file:~/.iggy/token\"",
    ] {
        assert_eq!(Redactor::new([3; 32]).redact(Shape::Log, harmless), harmless);
    }
    for secret in [
        "%Xy7_kL%",
        "@Tr0ub4dor@",
        "$ecret123!",
        "__s3cr3t__",
        "[a8Fk2]",
        "igg9***x",
        "ENC(k3yW0rd9)",
        "$12345",
        "PASSWORD1",
    ] {
        let text = format!("password = \"{secret}\"");
        assert!(!Redactor::new([3; 32]).redact(Shape::Log, &text).contains(secret), "{secret}");
    }
}

#[test]
fn shapes_follow_from_paths() {
    for (path, shape) in [
        ("/proc/77/environ", Shape::Environ),
        ("/proc/77/cmdline", Shape::Arguments),
        ("/etc/iggy/server.toml", Shape::Toml),
        ("/srv/.env", Shape::Environ),
        ("/srv/values.YML", Shape::Yaml),
        ("stats.json", Shape::Json),
        ("/var/lib/iggy/logs/iggy-server.log.1", Shape::Log),
        ("/proc/meminfo", Shape::Plain),
    ] {
        assert_eq!(Shape::of_path(path), shape, "{path}");
    }
}

#[test]
fn a_word_that_is_a_command_elsewhere_hides_nothing() {
    let text = "echo dockerpw1 | docker login --password-stdin ; x \"level\":\"info\"";
    let masked = redactor().redact(Shape::Log, text).into_owned();
    assert!(!masked.contains("dockerpw1") && masked.ends_with("\"level\":\"info\""), "{masked}");
}
