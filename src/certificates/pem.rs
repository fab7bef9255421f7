//! The blocks of a PEM file, read as the runtimes read them: by the PEM reader of rustls.

use std::ops::Range;

use rustls_pki_types::pem::{PemObject, SectionKind};
use warden_host::{Cause, Error, Failure, Result};

use super::parse_pem;

/// What stands in the place of each line of a private key: nothing of a key is needed here, and recordings hold only
/// its mask. It decodes, so that the reader goes on as it does behind a whole key.
const KEY_LINE: &str = "AAAA";
/// Headers of a key that is encrypted in the old form (RFC 1421); rustls does not read past such a block.
const OLD_ENCRYPTION: [&str; 2] = ["Proc-Type:", "DEK-Info:"];
/// How the mask of a secret begins.
const MASK: &str = "[secret:";
/// Labels that hold a certificate for other programs (OpenSSL), and not for rustls.
const LABEL_END: &str = "CERTIFICATE";

/// The certificates of a PEM text in DER, in their order, and what a person may take for one and the reader does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    pub certificates: Vec<Vec<u8>>,
    /// `TRUSTED CERTIFICATE`: labels of blocks that are passed over; with the reason, where the label is right.
    pub passed_over: Vec<String>,
    /// Why the reader stops: a server that is given this file refuses it.
    pub refused: Option<String>,
}

/// Reads all blocks. Text between blocks, keys, revocation lists and blocks of unknown labels are passed over.
///
/// # Errors
///
/// When a certificate is masked, so that nothing can be said of it.
pub fn blocks(what: &str, text: &str) -> Result<Blocks> {
    let (text, mut blocks) = without_keys(text);
    if let Some(line) = text.lines().find(|line| line.contains(MASK) && !line.contains("-----")) {
        let is_in_block = text.split(line).next().is_some_and(ends_inside_a_block);
        if is_in_block {
            let cause = Cause::Other("a part of a block is masked, so it cannot be judged".to_owned());
            return Err(Error::Host(Failure { what: what.to_owned(), cause }));
        }
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section {
            Ok((SectionKind::Certificate, der)) => blocks.certificates.push(der),
            Ok(_) => {}
            Err(error) => {
                blocks.refused.get_or_insert(format!("not PEM: {error}"));
            }
        }
    }
    Ok(blocks)
}

/// Where whole certificates stand in a text, as ranges of bytes: nothing in them is secret, and a change of one
/// character breaks them.
pub fn certificates_in(text: &str) -> Vec<Range<usize>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in text.match_indices(BEGIN) {
        let Some(length) = text[start..].find(END) else { break };
        let block = start..start + length + END.len();
        let is_certificate = parse_pem("block", &text[block.clone()]).is_ok_and(|all| all.len() == 1);
        if is_certificate && found.last().is_none_or(|last| last.end <= start) {
            found.push(block);
        }
    }
    found
}

fn ends_inside_a_block(text: &str) -> bool {
    text.rfind("-----BEGIN ") > text.rfind("-----END ")
}

/// The text with the content of private keys replaced, and what its lines say of blocks that are not read.
fn without_keys(text: &str) -> (String, Blocks) {
    let (mut kept, mut blocks) = (String::with_capacity(text.len()), Blocks::default());
    let mut in_key = false;
    for line in text.split_inclusive(['\n', '\r']) {
        let content = line.trim_end_matches(['\n', '\r']);
        if let Some(begin) = content.find("-----BEGIN ") {
            let label = content[begin..].trim_start_matches("-----BEGIN ").trim_end_matches(['-', ' ']);
            in_key = begin == 0 && label.contains("PRIVATE KEY");
            if label.ends_with(LABEL_END) && label != LABEL_END {
                blocks.passed_over.push(label.to_owned());
            } else if label == LABEL_END && begin > 0 {
                let before = if content.starts_with('\u{feff}') { "a byte order mark" } else { "something" };
                blocks.passed_over.push(format!("{label} with {before} before its first line"));
            }
        } else if content.starts_with("-----END ") {
            in_key = false;
        } else if in_key && !content.is_empty() {
            if OLD_ENCRYPTION.iter().any(|header| content.starts_with(header)) {
                let reason = "it holds a private key that is encrypted in the old form (Proc-Type)";
                blocks.refused.get_or_insert(reason.to_owned());
            }
            kept.push_str(KEY_LINE);
            kept.push_str(&line[content.len()..]);
            continue;
        }
        kept.push_str(line);
    }
    (kept, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    fn read(text: &str) -> (usize, Vec<String>, bool) {
        let blocks = blocks("x", text).unwrap();
        (blocks.certificates.len(), blocks.passed_over, blocks.refused.is_some())
    }

    fn whole(count: usize) -> (usize, Vec<String>, bool) {
        (count, Vec::new(), false)
    }

    #[test]
    fn keys_lists_text_and_line_ends_do_not_matter() {
        assert_eq!(read(&format!("{KEY}{CERTIFICATE}")), whole(1));
        let masked = KEY.replace("MC4CAQAwBQYDK2VwBCIEIA==", "[secret:private-key:3f9a01]");
        assert_eq!(read(&format!("{CERTIFICATE}{masked}{CERTIFICATE}")), whole(2));
        let list = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
        let parameters = "-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n";
        assert_eq!(read(&format!("subject=CN = a\n{list}{parameters}{CERTIFICATE}")), whole(1));
        assert_eq!(read(&CERTIFICATE.replace('\n', "\r\n")), whole(1));
        assert_eq!(read(CERTIFICATE.trim_end()), whole(1));
    }

    #[test]
    fn whole_certificates_are_found_and_what_only_looks_like_one_is_not() {
        let real = crate::made::authority("a").pem;
        let text = format!("{KEY}{CERTIFICATE}# password\n{real}{real}-----BEGIN CERTIFICATE-----\nMII");
        let found: Vec<&str> = certificates_in(&text).into_iter().map(|block| &text[block]).collect();
        assert_eq!(found, [real.trim_end(), real.trim_end()]);
    }

    #[test]
    fn what_only_openssl_reads_is_passed_over_and_named() {
        let labelled = |label: &str| CERTIFICATE.replace("CERTIFICATE", label);
        let named = |label: &str| (0, vec![label.to_owned()], false);
        assert_eq!(read(&labelled("TRUSTED CERTIFICATE")), named("TRUSTED CERTIFICATE"));
        assert_eq!(read(&labelled("X509 CERTIFICATE")), named("X509 CERTIFICATE"));
        assert_eq!(
            read(&format!("\u{feff}{CERTIFICATE}")),
            named("CERTIFICATE with a byte order mark before its first line")
        );
        assert_eq!(read(&format!("  {CERTIFICATE}")).0, 0);
    }

    #[test]
    fn what_the_reader_stops_at_is_refused_masked_or_not() {
        assert!(read("-----BEGIN CERTIFICATE-----\nMAA=\n").2, "no end");
        assert!(read("-----BEGIN CERTIFICATE-----\nM*A=\n-----END CERTIFICATE-----\n").2, "not base64");
        for content in ["MC4CAQ==", "[secret:private-key:3f9a01]"] {
            let old = format!(
                "{CERTIFICATE}-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n{content}\n-----END RSA PRIVATE KEY-----\n"
            );
            assert!(read(&old).2, "{content}");
        }
    }

    #[test]
    fn a_masked_certificate_cannot_be_judged_and_a_masked_comment_does_not_matter() {
        let masked = CERTIFICATE.replace("MAA=", "[secret:entropy:3f9a01]");
        assert!(matches!(blocks("x", &masked), Err(Error::Host(_))));
        assert_eq!(read(&format!("password: [secret:password:3f9a01]\n{CERTIFICATE}")), whole(1));
    }
}
