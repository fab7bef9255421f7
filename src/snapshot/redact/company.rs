//! What is masked alone is masked in company: every two forms of the corpora, in both orders, on neighbouring lines, on
//! one line and in every kind of file.

use super::*;

#[test]
fn an_address_in_a_later_line_hides_nothing_that_follows_it() {
    let lines = [
        ("Generated root user password: 9aXb7QkLm2PzR4", "9aXb7QkLm2PzR4"),
        ("HTTP API listening on http://127.0.0.1:3000 with api_key=conn-api-key-1", "conn-api-key-1"),
        ("Failed to POST https://in.example/v1: Authorization: Bearer abcDEF123456ghi", "abcDEF123456ghi"),
        ("connecting to https://es.internal:9200 user=elastic password=Winter-0818horse", "Winter-0818horse"),
        ("from app:goPass77@tcp(db:3306)/x to https://h/v1?api_key=conn-api-key-2", "conn-api-key-2"),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("2026-11-30T21:00:01Z WARN {line}\n")).collect();
    for shape in [Shape::Log, Shape::Plain, Shape::Yaml] {
        let masked = Redactor::new([5; 32]).redact(shape, &text).into_owned();
        for (_, secret) in lines {
            assert!(!masked.contains(secret), "{shape:?} {masked}");
        }
    }
}
