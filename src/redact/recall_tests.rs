//! How much of the corpora is masked, by class, and how much of what must stay is touched.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::corpus::{Entry, LOOKALIKES, ORDINARY, entries, files, published, secrets};
use super::*;

/// The table that is published.
const TABLE: &str = include_str!("corpus/RECALL.md");

#[derive(Default)]
struct Count {
    secrets: usize,
    masked: usize,
    ordinary: usize,
    touched: usize,
}

/// All corpora: those in the code have one class each.
fn corpora() -> Vec<(String, Vec<Entry>)> {
    let entry = |class: &str, shape: Shape, text: &str, secrets: Vec<String>| Entry {
        class: class.to_owned(),
        shape,
        text: text.to_owned(),
        secrets,
    };
    let coded = |secrets: Vec<(Shape, String, String)>, alike: &[(Shape, &str)]| {
        let secret =
            secrets.into_iter().map(|(shape, text, secret)| entry("secrets", shape, &text, vec![secret]));
        let alike = alike.iter().map(|(shape, text)| entry("look-alikes", *shape, text, Vec::new()));
        secret.chain(alike).collect()
    };
    let mut all = vec![
        ("first".to_owned(), coded(secrets(), LOOKALIKES)),
        ("published".to_owned(), coded(published(), ORDINARY)),
    ];
    all.extend(files());
    all
}

/// Counts an entry, and says what is wrong with it.
fn judge(entry: &Entry, count: &mut Count) -> Option<String> {
    let masked = Redactor::new([7; 32]).redact(entry.shape, &entry.text).into_owned();
    if entry.secrets.is_empty() {
        count.ordinary += 1;
        count.touched += usize::from(masked != entry.text);
        return (masked != entry.text).then(|| format!("touched [{}] {masked:?}", entry.class));
    }
    let left: Vec<&String> = entry.secrets.iter().filter(|secret| masked.contains(secret.as_str())).collect();
    count.secrets += entry.secrets.len();
    count.masked += entry.secrets.len() - left.len();
    (!left.is_empty())
        .then(|| format!("missed [{}] {left:?} of {:?} -> {masked:?}", entry.class, entry.shape))
}

fn share(part: usize, whole: usize) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

fn table(corpora: &[(String, Vec<Entry>)]) -> (String, Vec<String>) {
    let mut rows = "| corpus | class | secrets | masked | recall | ordinary texts | touched |\n".to_owned();
    rows += "| --- | --- | --- | --- | --- | --- | --- |\n";
    let mut wrong = Vec::new();
    for (corpus, entries) in corpora {
        let mut classes: BTreeMap<&str, Count> = BTreeMap::new();
        let mut all = Count::default();
        for entry in entries {
            wrong.extend(judge(entry, classes.entry(&entry.class).or_default()));
        }
        for count in classes.values() {
            all.secrets += count.secrets;
            all.masked += count.masked;
            all.ordinary += count.ordinary;
            all.touched += count.touched;
        }
        classes.insert("~", all);
        for (class, Count { secrets, masked, ordinary, touched }) in classes {
            let class = if class == "~" { "**all**" } else { class };
            let recall = share(masked, secrets);
            writeln!(
                rows,
                "| {corpus} | {class} | {secrets} | {masked} | {recall} | {ordinary} | {touched} |"
            )
            .unwrap();
        }
    }
    (rows, wrong)
}

#[test]
fn the_published_recall_by_class_is_what_is_measured() {
    let (measured, wrong) = table(&corpora());
    println!("{}\n{measured}", wrong.join("\n"));
    let published = TABLE.split_once("<!-- measured -->\n").unwrap().1;
    assert_eq!(published, measured, "the table of corpus/RECALL.md is not what is measured");
}

#[test]
fn a_corpus_file_gives_class_shape_text_and_secrets() {
    let read = entries("# told\n\n== a b | log\npw=«x y¦z» and «q»\n== c | args\nls␀-l␀\n\n");
    let shown: Vec<_> = read
        .iter()
        .map(|entry| (&*entry.class, entry.shape, &*entry.text, entry.secrets.join(",")))
        .collect();
    assert_eq!(
        shown,
        [
            ("a b", Shape::Log, "pw=x yz and q", "x yz,q".to_owned()),
            ("c", Shape::Arguments, "ls\0-l\0", String::new())
        ]
    );
}
