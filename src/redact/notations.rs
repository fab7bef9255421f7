//! Secrets in the notations of single programs: what stands before, behind or around a phrase of theirs.

use super::allowlist::is_harmless;
use super::command_line;
use super::entropy::is_secretish;
use super::forms::{masked, word_at};
use super::key_names::{self, Certainty, telling};
use super::placeholders::is_token;
use super::sentence::is_chosen;
use super::span::Span;
use super::value::word_end;

/// Reads a line in which the phrase stands at `start..end`.
pub(super) type Reader = fn(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()>;

/// Longest part of a line that is read for one phrase, before and behind it: linear in the line for any phrase.
const READ_BYTES: usize = 512;
/// The same for phrases that no text repeats by chance, and which begin long statements.
const STATEMENT_BYTES: usize = 4096;
/// Shortest key in hexadecimal: 128 bits.
const KEY_DIGITS: usize = 32;
/// Length of an AWS secret access key.
const AWS_SECRET_BYTES: usize = 40;
/// Most columns of an INSERT that are read.
const COLUMNS: usize = 64;

pub(super) const NOTATIONS: &[(&str, Reader)] = &[
    ("invalid type: ", mistyped),
    ("invalid value: ", mistyped),
    ("\"kty\"", web_key),
    (" / ", login),
    ("&p=", short_query),
    ("?p=", short_query),
    ("?code=", code),
    ("&code=", code),
    ("samlresponse=", code),
    ("assertion=", code),
    ("ticket=ST-", code),
    ("user_", jaas_user),
    (" crypt ", device_mapper),
    (") 0x", bracketed_key),
    ("inline:", inline_key),
    ("encrypt = \"", gossip_key),
    ("encrypt\": \"", gossip_key),
    ("encrypt\":\"", gossip_key),
    ("encrypt: \"", gossip_key),
    ("CLIENT_RANDOM ", key_log),
    ("CLIENT_HANDSHAKE_TRAFFIC_SECRET ", key_log),
    ("SERVER_HANDSHAKE_TRAFFIC_SECRET ", key_log),
    ("CLIENT_TRAFFIC_SECRET_0 ", key_log),
    ("SERVER_TRAFFIC_SECRET_0 ", key_log),
    ("CLIENT_EARLY_TRAFFIC_SECRET ", key_log),
    ("EXPORTER_SECRET ", key_log),
    ("<<<", here_string),
    ("proctitle=", proctitle),
    ("//", share),
    ("@", without_scheme),
    ("insert into ", insert),
    ("echo ", written),
    ("printf ", written),
    ("sec-websocket-protocol: ", words),
    (" * \"", chap),
    ("static:", login_pair),
    ("user=", login_pair),
    ("net use ", net_use),
    ("pgp_sym_", last_string),
    ("aes_encrypt(", last_string),
    ("aes_decrypt(", last_string),
    ("gen_salt(", crypt),
    ("enable password 7 ", next),
    ("enable secret ", next),
    (" password 7 ", next),
    (" password 0 ", next),
    (" secret 0 ", next),
    (" secret 5 ", next),
    ("rootpw --plaintext ", next),
    ("log in with ", pair_behind),
    ("login with ", pair_behind),
    ("credentials ", pair_behind),
    ("log in as ", login_as),
    ("login as ", login_as),
    (" from ", changed),
    ("one-time code", number),
    ("verification code", number),
    ("security code", number),
    ("mysql('", last_argument),
    ("postgresql('", last_argument),
    ("mongodb('", last_argument),
    ("{plain}", dovecot),
    ("{cleartext}", dovecot),
    ("cmd=", proctitle),
];

fn push(spans: &mut Vec<Span>, start: usize, text: &str, rule: &'static str) -> Option<()> {
    let shown = is_token(text) || text.starts_with("[secret:") || is_harmless(text, Certainty::Sure, true);
    spans.extend(masked(start, text, rule).filter(|_| !shown));
    Some(())
}

/// The part of a line from `at` on that is read at most.
fn reach(line: &str, at: usize) -> &str {
    &line[at..line.floor_char_boundary(line.len().min(at + READ_BYTES))]
}

/// The part of a line before `at` that is read at most.
fn back(line: &str, at: usize) -> &str {
    &line[line.floor_char_boundary(at.saturating_sub(READ_BYTES))..at]
}

fn statement(line: &str, at: usize) -> &str {
    &line[at..line.floor_char_boundary(line.len().min(at + STATEMENT_BYTES))]
}

/// The word at `at`, if it is not longer than what is read.
fn word(line: &str, at: usize) -> &str {
    let rest = reach(line, at);
    &rest[..word_end(rest.as_bytes(), 0)]
}

fn name_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

fn told(name: &str) -> bool {
    let config = ["plugin_config", "plugin-config"].iter().any(|part| name.contains(part));
    config || telling(name).is_some_and(|telling| telling.certainty != Certainty::Possible)
}

/// ``invalid type: integer `5`, expected a string for key "iggy.password"`` of serde, and the same behind the name.
fn mistyped(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let open = rest.find(['`', '"']).filter(|open| *open < 64)?;
    let quote = rest[open..].chars().next()?;
    let value = &rest[open + 1..];
    let close = value.find(quote)?;
    let before = back(line, start).trim_end().trim_end_matches(':');
    let before = before.rsplit(|letter| !name_part(letter)).next().unwrap_or_default();
    let after = ["for key ", "in key ", "for field ", " in `", "key: "].iter().find_map(|phrase| {
        let at = value[close..].find(phrase)? + close + phrase.len();
        value[at..].trim_start_matches(['"', '`', '\'']).split(|letter| !name_part(letter)).next()
    });
    if told(before) || after.is_some_and(told) {
        push(spans, end + open + 1, &value[..close], "secret")?;
    }
    Some(())
}

/// The private members of a JSON web key (RFC 7518): `"d"` of an elliptic curve, all but two of RSA, `"k"` of a
/// symmetric one.
pub(super) const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

fn web_key(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let before = back(line, start);
    let open = start - before.len() + before.rfind('{').unwrap_or(0);
    let rest = statement(line, open);
    let close = rest[end - open..].find('}').map_or(rest.len(), |close| end - open + close);
    for member in PRIVATE_MEMBERS {
        let name = format!("\"{member}\"");
        let Some(at) = rest[..close].find(&name).map(|at| at + name.len()) else { continue };
        let value = rest[at..close].trim_start_matches([':', ' ']);
        let Some(inner) = value.strip_prefix('"') else { continue };
        let first = open + close - inner.len();
        let inner = &inner[..inner.find('"').unwrap_or(inner.len())];
        push(spans, first, inner, "private-key")?;
    }
    Some(())
}

/// `root / hunter2x is the login`.
fn login(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let user = back(line, start).rsplit(' ').next().unwrap_or_default();
    let word = word(line, end);
    let named = !user.is_empty() && user.chars().all(|letter| name_part(letter) || letter == '@');
    let plain = word.contains(['/', ':']) || word.starts_with(|first: char| first.is_ascii_digit());
    if !named || plain || !is_secretish(word) || !is_chosen(word) {
        return None;
    }
    let lower = [back(line, start), reach(line, end)].concat().to_ascii_lowercase();
    let about = ["login", "log in", "password", "credential", "sign in", "passwd", "account"];
    about.iter().any(|word| lower.contains(word)).then(|| push(spans, end, word, "password"))?
}

/// `?u=telegraf&p=x` of InfluxDB and its like.
fn short_query(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let before = back(line, start).rsplit(char::is_whitespace).next().unwrap_or_default();
    let rest = reach(line, end);
    let length = rest.find(|letter: char| letter.is_whitespace() || "&\"'#".contains(letter));
    let query = ["?u=", "&u=", "?user=", "&user=", "&username=", "?username="];
    let after = rest.split(char::is_whitespace).next().unwrap_or_default();
    query.iter().any(|user| before.contains(user) || after.contains(user)).then_some(())?;
    push(spans, end, &rest[..length.unwrap_or(rest.len())], "password")
}

/// A code or an assertion that is exchanged for a token.
fn code(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let at = if line[start..end].ends_with("ST-") { end - 3 } else { end };
    let rest = reach(line, at);
    let length = rest.find(|letter: char| letter.is_whitespace() || "&\"'#<>".contains(letter));
    let value = &rest[..length.unwrap_or(rest.len())];
    (value.len() >= 16 && is_secretish(value)).then(|| push(spans, at, value, "token"))?
}

/// `user_alice="x"` of Kafka's JAAS.
fn jaas_user(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    const OTHERS: [&str; 16] = [
        "name", "id", "agent", "email", "group", "groups", "role", "type", "data", "dir", "path", "list",
        "file", "count", "uid", "config",
    ];
    let rest = reach(line, end);
    let name = rest.split(|letter| !name_part(letter)).next().unwrap_or_default();
    let value =
        rest[name.len()..].strip_prefix("=\"").or_else(|| rest[name.len()..].strip_prefix("=\\\""))?;
    let before = back(line, start);
    let own = before.trim().is_empty() && before.len() == start || before.contains("LoginModule");
    (own && !OTHERS.contains(&name)).then_some(())?;
    let first = end + rest.len() - value.len();
    push(spans, first, &value[..value.find(['"', '\\']).unwrap_or(value.len())], "password")
}

/// `0 41943040 crypt aes-xts-plain64 KEY 0 8:2 32768` of `dmsetup table --showkeys`.
fn device_mapper(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let (cipher, name) = word_at(line, end - 1)?;
    let (first, key) = word_at(line, cipher + name.len())?;
    is_key(key).then(|| push(spans, first, key, "encryption-key"))?
}

fn is_key(word: &str) -> bool {
    word.len() >= KEY_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `enc cbc(aes) 0x...` of `ip xfrm state`.
fn bracketed_key(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    (digits >= KEY_DIGITS).then(|| push(spans, end - 2, &line[end - 2..end + digits], "secret-key"))?
}

/// `a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:KEY` of SRTP.
fn inline_key(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let length = base64_length(reach(line, end));
    (length >= 40).then(|| push(spans, end, &line[end..end + length], "secret-key"))?
}

/// `encrypt = "KEY"` of Consul and Nomad.
fn gossip_key(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let length = base64_length(reach(line, end));
    let key = length >= 24 && line[end..end + length].ends_with('=');
    key.then(|| push(spans, end, &line[end..end + length], "encryption-key"))?
}

fn base64_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)).count()
}

/// A line of a TLS key log: label, random, secret.
fn key_log(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let (first, random) = word_at(line, end - 1)?;
    let (start, rest) = word_at(line, first + random.len())?;
    let secret = &rest[..rest.bytes().take_while(u8::is_ascii_hexdigit).count()];
    (secret.len() >= 64).then(|| push(spans, start, secret, "secret-key"))?
}

/// `cryptsetup luksOpen /dev/sdb x <<< "hunter2x"`.
fn here_string(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let said = rest.trim_start();
    let first = end + rest.len() - said.len();
    let quote = said.chars().next().filter(|quote| matches!(quote, '"' | '\''));
    let (first, said) = match quote {
        Some(quote) => (first + 1, said[1..].split(quote).next()?),
        None => (first, said.split(' ').next()?),
    };
    (is_chosen(said) && !said.contains(' ')).then(|| push(spans, first, said, "password"))?
}

/// The arguments of a process as the audit log writes them: in hexadecimal, divided by NUL.
fn proctitle(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = statement(line, end);
    let digits = &rest[..rest.bytes().take_while(u8::is_ascii_hexdigit).count() / 2 * 2];
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        digits.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    let command = String::from_utf8(bytes?).ok()?;
    let mut found = Vec::new();
    command_line::arguments(&command, 0, command.len(), &mut found);
    let place =
        |span: &Span| Span { start: end + 2 * span.start, end: end + 2 * span.end, ..*span }.known(false);
    spans.extend(found.iter().filter(|span| span.start < span.end).map(place));
    Some(())
}

/// `//user:password@server/share`.
fn share(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let opened =
        line[..start].chars().next_back().is_none_or(|last| last.is_whitespace() || "\"'=(".contains(last));
    let rest = reach(line, end);
    let word = &rest[..rest.find(|letter: char| letter.is_whitespace() || "/\"'<>".contains(letter))?];
    let host = word.rfind('@').filter(|_| opened)?;
    let colon = word[..host].find(':')?;
    push(spans, end + colon + 1, &word[colon + 1..host], "url-userinfo")
}

/// `user:password@host` without a scheme.
fn without_scheme(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let before = &line.as_bytes()[start.saturating_sub(256)..start];
    let parts = |byte: &&u8| byte.is_ascii_graphic() && !b"\"'`<>()[]{},;=/\\".contains(byte);
    let from = start - before.iter().rev().take_while(parts).count();
    let (user, password) = line[from..start].split_once(':')?;
    let named = !user.is_empty() && user.chars().all(name_part);
    let host = word(line, end);
    let letters =
        host.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)).count();
    let addressed = host.starts_with(|first: char| first.is_ascii_alphabetic()) && !host.starts_with("sha")
        || host[..letters].parse::<core::net::Ipv4Addr>().is_ok();
    let unit = [".service", ".socket", ".timer", ".slice"].iter().any(|end| host[..letters].ends_with(end));
    let version =
        password.starts_with('v') && password[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fits = named && addressed && !unit && !version && is_secretish(password) && !password.contains(':');
    fits.then(|| push(spans, start - password.len(), password, "url-userinfo"))?
}

/// `INSERT INTO users (name, password) VALUES ('bob', 'x')`: the column tells.
fn insert(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = statement(line, end);
    let open = rest.find('(')?;
    let close = open + rest[open..].find(')')?;
    let columns: Vec<&str> = rest[open + 1..close]
        .split(',')
        .take(COLUMNS)
        .map(|name| name.trim().trim_matches(['"', '`', '[', ']']))
        .collect();
    let values = &rest[close..];
    let lower = values.to_ascii_lowercase();
    let mut at = close + lower.find("values")? + 6;
    // Each row in parentheses.
    while let Some(row) = rest[at..].find('(').map(|open| at + open + 1) {
        at = row;
        for column in &columns {
            let (first, last, next) = literal(rest, at)?;
            if told(column) && last > first {
                push(spans, end + first, &rest[first..last], "password")?;
            }
            at = next;
            if rest.as_bytes().get(at.checked_sub(1)?) == Some(&b')') {
                break;
            }
        }
    }
    Some(())
}

/// The literal of SQL at `at`, without its quotes, and where the next one begins.
fn literal(text: &str, at: usize) -> Option<(usize, usize, usize)> {
    let bytes = text.as_bytes();
    let start = at + bytes[at..].iter().take_while(|byte| **byte == b' ').count();
    let (mut end, mut open) = (start, None);
    while end < bytes.len() {
        match (open, bytes[end]) {
            (None, quote @ (b'\'' | b'"')) => open = Some(quote),
            (Some(quote), byte) if quote == byte => open = None,
            (None, b',' | b')') => break,
            _ => {}
        }
        end += 1;
    }
    let whole = &text[start..end.min(text.len())];
    let trimmed = whole.trim_end();
    let quoted = trimmed.len() >= 2 && trimmed.starts_with(['\'', '"']) && trimmed.ends_with(['\'', '"']);
    let (first, last) = (start + usize::from(quoted), start + trimmed.len() - usize::from(quoted));
    // What is no literal is a default or an expression.
    let last = if quoted { last } else { first };
    (end < bytes.len()).then_some((first, last, end + 1))
}

/// `echo x > /etc/app/password`, `printf user:x | base64`: what is written to where the name tells.
fn written(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let stop = rest.find(['|', '>'])?;
    let target = &rest[stop..];
    let into = target
        .rfind('>')
        .map(|at| &target[at + 1..])
        .or_else(|| target.split_once("tee ").map(|(_, to)| to))?;
    let path = into.trim_start_matches(['>', ' ', '-', 'a']).split([' ', ';', '"', '\'']).next()?;
    let said = rest[..stop]
        .trim_end()
        .trim_start_matches("-n ")
        .trim_start_matches("-e ")
        .trim_start_matches("-ne ");
    let said = said.strip_prefix("'%s' ").or_else(|| said.strip_prefix("%s ")).unwrap_or(said);
    key_names::of_file(path).filter(|_| !said.is_empty())?;
    let first = end + rest[..stop].trim_end().len() - said.len();
    let quoted = said.len() >= 2 && said.starts_with(['"', '\'']) && said.ends_with(['"', '\'']);
    let cut = usize::from(quoted);
    push(spans, first + cut, &said[cut..said.len() - cut], "password")
}

/// Every word that could be a token: `Sec-WebSocket-Protocol: access_token, x`.
fn words(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let mut at = end;
    for word in reach(line, end).split([',', ' ']) {
        let secret = is_secretish(word) && !word.contains("://") && !word.starts_with('v');
        if secret {
            push(spans, at, word.trim_end(), "token")?;
        }
        at += word.len() + 1;
    }
    Some(())
}

/// A line of pap-secrets or chap-secrets: client, server, secret, addresses.
fn chap(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let client = back(line, start).trim();
    let secret = reach(line, end).split('"').next()?;
    let tail = reach(line, end + secret.len()).trim_start_matches('"').trim();
    let fits = !client.is_empty() && !client.contains(' ') && tail.len() < 64 && !tail.contains(' ');
    fits.then(|| push(spans, end, secret, "password"))?
}

/// `static:user:password` of Postfix, `user=name:password` of coturn.
fn login_pair(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    if line[..start].ends_with(|last: char| last.is_ascii_alphanumeric() || "_-&?.".contains(last)) {
        return None;
    }
    let (user, password) = word(line, end).split_once(':')?;
    let fits = user.chars().all(name_part) && is_chosen(password) && !password.contains([':', '/']);
    fits.then(|| push(spans, end + user.len() + 1, password, "password"))?
}

/// `net use \\server\share /user:name password`.
fn net_use(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let mut at = end;
    let mut user = false;
    for word in reach(line, end).split(' ') {
        let lower = word.to_ascii_lowercase();
        if user && !word.is_empty() && !word.starts_with('/') {
            return push(spans, at, word, "password");
        }
        user = user || lower.starts_with("/user:");
        at += word.len() + 1;
    }
    None
}

/// The last string of a call, which is its key.
fn last_string(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let rest = &rest[..rest.find(");").or_else(|| rest.rfind(')'))?];
    let close = rest.rfind('\'')?;
    let open = rest[..close].rfind('\'')? + 1;
    push(spans, end + open, &rest[open..close], "password")
}

/// `crypt('x', gen_salt('bf'))`.
fn crypt(line: &str, start: usize, _: usize, spans: &mut Vec<Span>) -> Option<()> {
    let before = back(line, start);
    let call = start - before.len() + before.rfind("crypt(")? + 6;
    let (first, last, _) = literal(line, call)?;
    push(spans, first, &line[first..last], "password")
}

/// The word behind the phrase, or behind the number of its kind: `enable secret 5 x`.
fn next(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let (mut first, mut word) = word_at(line, end - 1)?;
    if word.len() == 1 {
        (first, word) = word_at(line, first + 1)?;
    }
    let secret = word.len() >= 4 && word.bytes().any(|byte| !byte.is_ascii_lowercase());
    secret.then(|| push(spans, first, word, "password"))?
}

/// `log in with bob:x`, `credentials bob/x`.
fn pair_behind(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let pair = word(line, end);
    let sign = pair.find([':', '/'])?;
    let (user, password) = (&pair[..sign], &pair[sign + 1..]);
    let fits =
        !user.is_empty() && user.chars().all(name_part) && is_secretish(password) && is_chosen(password);
    let plain = password.contains(['/', ':', '@']);
    (fits && !plain).then(|| push(spans, end + sign + 1, password, "password"))?
}

/// `log in as root with x`.
fn login_as(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let user = word(line, end);
    let at = end + user.len();
    let rest = reach(line, at).strip_prefix(" with ")?;
    let start = at + 6;
    let quoted = rest.starts_with(['"', '\'', '`']);
    let start = start + usize::from(quoted);
    let password = word(line, start).trim_end_matches(['"', '\'', '`', '.', ',']);
    (is_secretish(password) && is_chosen(password)).then(|| push(spans, start, password, "password"))?
}

/// `changed the password from x to y`.
fn changed(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let before = back(line, start);
    let about =
        ["password", "passphrase", "passwd", "secret", "pin"].iter().any(|name| before.ends_with(name));
    let old = word(line, end).trim_matches(['"', '\'', '`']);
    let chosen =
        |word: &str| is_chosen(word) && !word.contains([':', '/']) && !super::entropy::is_identifier(word);
    (about && chosen(old)).then_some(())?;
    let at = end + reach(line, end).find(" to ")? + 4;
    let new = word(line, at).trim_matches(['"', '\'', '`', '.', ',']);
    chosen(new).then_some(())?;
    let place = |from: usize, word: &str| from + line[from..].find(word).unwrap_or(0);
    push(spans, place(end, old), old, "password")?;
    push(spans, place(at, new), new, "password")
}

/// A one-time code.
fn number(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    spans.extend(super::forms::pin(line, end));
    Some(())
}

/// `mysql('db:3306', 'shop', 'orders', 'bob', 'x')` of ClickHouse.
fn last_argument(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let call = &rest[..rest.find(')')?];
    let password = call.trim_end().strip_suffix('\'')?;
    let password = &password[password.rfind('\'')? + 1..];
    let arguments = call.matches("',").count();
    (arguments >= 3 && is_chosen(password)).then(|| last_string(line, start, end, spans))?
}

/// `bob:{PLAIN}x:::` of a password file of Dovecot.
fn dovecot(line: &str, _: usize, end: usize, spans: &mut Vec<Span>) -> Option<()> {
    let rest = reach(line, end);
    let length =
        rest.find(|letter: char| letter.is_whitespace() || ":\"'".contains(letter)).unwrap_or(rest.len());
    push(spans, end, &rest[..length], "password")
}

/// The secret access key that stands behind its identifier, which ends at `at`.
pub(super) fn aws_secret(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let between = bytes[at..].iter().take(8).take_while(|byte| b"\"' ,:;|/\t".contains(byte)).count();
    let start = at + between;
    let length = bytes[start..]
        .iter()
        .take(AWS_SECRET_BYTES + 1)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte));
    let secret = length.count();
    (between > 0 && secret == AWS_SECRET_BYTES).then_some((start, start + secret))
}
