//! Where the value of a name begins and ends.

use super::span::Quoting;

/// Blanks between a name, its separator and its value: aligned columns are not wider.
const BLANKS: usize = 64;

/// Tags of the value that follows a tag with its name.
pub(super) const VALUE_TAGS: [&str; 3] = ["<value>", "<string>", "<val>"];
/// Quotes of other languages than English, opening and closing.
const TYPOGRAPHIC: [(char, &[char]); 9] = [
    ('«', &['»']),
    ('»', &['«', '»']),
    ('„', &['“', '”']),
    ('“', &['”', '“']),
    ('”', &['”']),
    ('‘', &['’']),
    ('‹', &['›']),
    ('「', &['」']),
    ('『', &['』']),
];

pub(super) struct Value {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) quoted: bool,
}

/// How a name and its value are held together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    Equals,
    Colon,
    /// `<password>value</password>`
    Element,
}

pub(super) struct Joined {
    pub(super) joint: Joint,
    /// Where the value (or its quote) begins.
    pub(super) at: usize,
    /// How the name was quoted, backslashes included: `"`, `\"`.
    pub(super) name_quote: Quoting,
    /// The name is the text of a tag, and the value that of the next one.
    pub(super) tagged: bool,
}

/// What follows a name that ends at `at`: its closing quote, a separator, blanks.
pub(super) fn joined(line: &str, mut at: usize) -> Option<Joined> {
    let bytes = line.as_bytes();
    let (quote, backslashes) = quote_length(bytes, at);
    let name_quote = match (quote, bytes.get(at + quote.saturating_sub(1))) {
        (0, _) => Quoting::None,
        (_, Some(b'"')) if backslashes == 0 => Quoting::Double,
        (_, Some(b'"')) if backslashes == 1 => Quoting::Escaped,
        _ => Quoting::None,
    };
    at += quote;
    if let Some(next) =
        next_attribute(bytes, at).filter(|_| quote > 0 || bytes[at..].starts_with(b", value: "))
    {
        return Some(Joined { joint: Joint::Equals, at: next, name_quote, tagged: false });
    }
    // Hadoop's `<name>secret.key</name><value>x</value>`, over two lines as well.
    for name in ["</name>", "</key>"] {
        if quote > 0 || !bytes[at..].starts_with(name.as_bytes()) {
            continue;
        }
        let next = skip_blanks(bytes, at + name.len());
        if next == bytes.len() || bytes[next] == b'\r' {
            return Some(Joined { joint: Joint::Equals, at: next, name_quote, tagged: true });
        }
        let tag = VALUE_TAGS.iter().find(|tag| bytes[next..].starts_with(tag.as_bytes()))?;
        return Some(Joined { joint: Joint::Element, at: next + tag.len(), name_quote, tagged: false });
    }
    let bracket = bytes.get(at) == Some(&b']');
    let shown = bracket && matches!(bytes.get(skip_blanks(bytes, at + 1)), Some(b'=' | b':'));
    at += usize::from(bracket && (quote > 0 || shown));
    let after = at;
    at = skip_blanks(bytes, at);
    let rest = bytes.get(at..)?;
    // A pair of Lisp: `(password . "x")`.
    if rest.starts_with(b". \"") && at > after {
        return Some(Joined { joint: Joint::Equals, at: at + 2, name_quote, tagged: false });
    }
    let separators: [(&str, Joint); 17] = [
        ("\u{ff1a}", Joint::Colon),
        ("\u{ff1d}", Joint::Equals),
        ("%253D", Joint::Equals),
        ("%253d", Joint::Equals),
        ("%253A", Joint::Equals),
        ("%3a", Joint::Equals),
        ("=>", Joint::Equals),
        (":=", Joint::Equals),
        ("->", Joint::Equals),
        ("==", Joint::Equals),
        ("::", Joint::Element),
        ("=", Joint::Equals),
        (":", Joint::Colon),
        ("%3D", Joint::Equals),
        ("%3A", Joint::Equals),
        ("%3d", Joint::Equals),
        (">", Joint::Element),
    ];
    let (separator, joint) =
        separators.iter().find(|(separator, _)| rest.starts_with(separator.as_bytes()))?;
    let scheme = *joint == Joint::Colon && rest.starts_with(b"://");
    if *separator == "::" || scheme {
        return None;
    }
    let at = skip_blanks(bytes, at + separator.len());
    Some(Joined { joint: *joint, at, name_quote, tagged: false })
}

/// `key="Password" value="x"` of XML, and `a1="--password" a2="x"` of the audit log.
fn next_attribute(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    for between in [" value=", ",\"value\":", ", \"value\": ", ", value: ", ",value:"] {
        if rest.starts_with(between.as_bytes()) {
            return Some(at + between.len());
        }
    }
    let digits = rest.strip_prefix(b" a")?.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0 && rest.get(2 + digits) == Some(&b'=')).then_some(at + 3 + digits)
}

pub(super) fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes.iter().skip(at).take(BLANKS).take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Length of a quote with its backslashes, and how many backslashes; `%22` and `&quot;` are quotes too.
fn quote_length(bytes: &[u8], at: usize) -> (usize, usize) {
    let rest = bytes.get(at..).unwrap_or_default();
    for written in ["%22", "%27", "&quot;", "&#34;", "&#x27;", "\\u0022"] {
        if rest.starts_with(written.as_bytes()) {
            return (written.len(), 0);
        }
    }
    let backslashes = rest.iter().take(16).take_while(|byte| **byte == b'\\').count();
    match rest.get(backslashes) {
        Some(b'"' | b'\'' | b'`') => (backslashes + 1, backslashes),
        Some(_) | None => (0, 0),
    }
}

/// The value that begins at `at`, without its quotes.
pub(super) fn value(line: &str, at: usize, joint: Joint) -> Option<Value> {
    let bytes = line.as_bytes();
    if joint == Joint::Element
        && let Some(rest) = line[at..].strip_prefix("<![CDATA[")
    {
        let start = line.len() - rest.len();
        let end = rest.find("]]>").map_or(line.len(), |end| start + end);
        return Some(Value { start, end, quoted: true });
    }
    if let Some(found) = typographic(line, at) {
        return Some(found);
    }
    let at = skip_wrapper(bytes, at);
    if bytes.get(at) == Some(&b'[') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        // Bytes as numbers.
        let list = bytes[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit() || b", x".contains(byte))
            .count();
        return Some(Value { start: at + 1, end: at + 1 + list, quoted: true });
    }
    let (quote, backslashes) = quote_length(bytes, at);
    if quote > 0 {
        let start = at + quote;
        let end = closing(bytes, start, &bytes[at..start], backslashes);
        return Some(Value { start, end, quoted: true });
    }
    let end = if joint == Joint::Element { at + line[at..].find('<')? } else { word_end(bytes, at) };
    (end > at).then_some(Value { start: at, end, quoted: false })
}

/// `« x »`, `„x“`: the blanks inside belong to the quotes.
fn typographic(line: &str, at: usize) -> Option<Value> {
    let opening = line.get(at..)?.chars().next().filter(|first| !first.is_ascii())?;
    let (_, closing) = TYPOGRAPHIC.iter().find(|(quote, _)| *quote == opening)?;
    let start = at + opening.len_utf8();
    let inner = &line[start..start + line[start..].find(*closing)?];
    let end = start + inner.trim_end().len();
    let start = start + inner.len() - inner.trim_start().len();
    (start < end).then_some(Value { start, end, quoted: true })
}

/// `Some(`, `SecretString(`, `b`, `r#`: what may stand between a separator and the quote.
fn skip_wrapper(bytes: &[u8], at: usize) -> usize {
    let name =
        bytes[at..].iter().take(32).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let opening = bytes.get(at + name);
    let next = at + name + 1;
    let quoted = |at: usize| quote_length(bytes, at).0 > 0;
    match opening {
        // Laravel's `env('NAME', 'x')`.
        Some(b'(') if bytes[at..].starts_with(b"env(") => {
            let name_end = bytes[next..].iter().take(64).position(|byte| *byte == b',');
            name_end.map_or(at, |comma| skip_blanks(bytes, next + comma + 1))
        }
        Some(b'(') if quoted(next) => next,
        Some(b'#') if name == 1 && quoted(next) => next,
        Some(b'"' | b'\'') if name == 1 && matches!(bytes[at], b'b' | b'u' | b'r' | b'f') => at + 1,
        // PHP's `string(9) "x"`.
        Some(b'(') if bytes[at..].starts_with(b"string(") => {
            let digits = bytes[next..].iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
            if bytes[next + digits..].starts_with(b") \"") { next + digits + 2 } else { at }
        }
        Some(b'(') if name > 0 => skip_wrapper_once(bytes, next),
        Some(b'[') if name == 0 && quoted(next) => next,
        // `SecretString { inner: "x" }`.
        Some(b' ') if name > 0 && bytes.get(next) == Some(&b'{') && bytes[at].is_ascii_uppercase() => {
            let field = bytes[next + 1..].iter().take(40).take_while(|byte| !b"\"}".contains(byte)).count();
            if bytes.get(next + 1 + field) == Some(&b'"') { next + 1 + field } else { at }
        }
        Some(_) | None => at,
    }
}

/// One wrapper inside another: `Some(SecretString("`.
fn skip_wrapper_once(bytes: &[u8], at: usize) -> usize {
    let name = bytes[at..].iter().take(32).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if bytes.get(at + name) == Some(&b'(') { at + name + 1 } else { at }
}

/// Where the quote that was opened is closed; the end of the text if it never is.
fn closing(bytes: &[u8], start: usize, quote: &[u8], backslashes: usize) -> usize {
    let last = quote[quote.len() - 1];
    let written = !matches!(last, b'"' | b'\'' | b'`');
    let mut at = start;
    while at < bytes.len() {
        if bytes[at] == b'\n' {
            return at;
        }
        if written {
            if bytes[at..].starts_with(quote) {
                return at;
            }
            at += 1;
            continue;
        }
        let escapes = bytes[at..].iter().take_while(|byte| **byte == b'\\').count();
        match bytes.get(at + escapes) {
            // Fewer backslashes than the opening one: the string around this one ends here.
            Some(byte) if *byte == last && escapes <= backslashes => return at,
            Some(b'"') if escapes < backslashes => return at,
            // An odd number of further backslashes escapes the quote; an even one are backslashes of the value.
            Some(byte) if *byte == last && backslashes == 0 && escapes % 2 == 0 => return at + escapes,
            Some(_) => at += escapes + 1,
            None => return bytes.len(),
        }
    }
    bytes.len()
}

/// The end of an unquoted value in running text.
pub(super) fn word_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut open) = (start, 0_usize);
    while at < bytes.len() {
        let byte = bytes[at];
        open += usize::from(matches!(byte, b'(' | b'{' | b'['));
        let ends = match byte {
            b'"' | b'`' => true,
            b'<' => at > start && bytes.get(at + 1) == Some(&b'/'),
            b'\'' => !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric),
            b',' | b';' | b'&' | b'|' => at > start && (at + 1 == bytes.len() || name_follows(bytes, at + 1)),
            b')' | b'}' | b']' if open > 0 => {
                open -= 1;
                false
            }
            b')' | b'}' | b']' => !word_goes_on(bytes, at),
            b'\\' => {
                matches!(bytes.get(at + 1), Some(b'"'))
                    || (matches!(bytes.get(at + 1), Some(b'n' | b'r' | b't')) && name_follows(bytes, at + 2))
            }
            b'%' => bytes[at..].starts_with(b"%22") || bytes[at..].starts_with(b"%26"),
            // A carriage return inside a word is a trick to hide the rest of it.
            b'\r' => !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric),
            // The comma, the full stop and their like of Chinese and Japanese.
            0xef => {
                at > start
                    && [&b"\xef\xbc\x8c"[..], b"\xef\xbc\x9b", b"\xef\xbc\x89"]
                        .iter()
                        .any(|sign| bytes[at..].starts_with(sign))
            }
            0xe3 => {
                at > start
                    && [&b"\xe3\x80\x81"[..], b"\xe3\x80\x82"]
                        .iter()
                        .any(|sign| bytes[at..].starts_with(sign))
            }
            _ => byte == b' ' || byte.is_ascii_control(),
        };
        if ends {
            break;
        }
        at += 1;
    }
    while at > start + 1 && matches!(bytes[at - 1], b',' | b';' | b'.') {
        at -= 1;
    }
    at
}

fn word_goes_on(bytes: &[u8], at: usize) -> bool {
    let next = bytes[at..].iter().take(16).find(|byte| !b")}],;.".contains(byte));
    next.is_some_and(|byte| !byte.is_ascii_whitespace() && !b"\"'\\\0".contains(byte))
}

/// Whether the text goes on with something that is not part of the value: blanks, a quote, or the next name.
fn name_follows(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let name = rest
        .iter()
        .take(64)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-. ".contains(byte))
        .count();
    match rest.first() {
        None => true,
        Some(first) if first.is_ascii_whitespace() || b"\"'\\\0".contains(first) => true,
        Some(_) => name > 0 && matches!(rest.get(name), Some(b'=' | b':')),
    }
}
