//! Whether one certificate's key made the signature of another, as far as that can be checked here.

use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What a look at a signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    Good,
    /// Another key made it.
    Broken,
    /// The library cannot check this kind of signature or key; its name.
    Unchecked(String),
}

/// Sizes of RSA keys, in bits, that the library (ring) verifies with, and for SHA-1 the least.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const RSA_BITS_OF_SHA1: usize = 1024;
/// Public exponents that the library takes: odd, and of 33 bits at most.
const RSA_EXPONENTS: std::ops::RangeInclusive<u64> = 3..=(1 << 33) - 1;

/// Checks the signature of `own` with the key of `issuer`, whatever their names are.
pub fn check(own: &X509Certificate, issuer: &X509Certificate) -> Signature {
    let (algorithm, key) = (&own.signature_algorithm, issuer.public_key());
    let families = (family(&oid(algorithm)), family(&oid(&key.algorithm)));
    if let (Some(of_signature), Some(of_key)) = families
        && of_signature != of_key
    {
        return Signature::Broken;
    }
    let unchecked = || Signature::Unchecked(algorithm_name(&oid(algorithm)));
    match own.verify_signature(Some(key)) {
        Ok(()) => Signature::Good,
        Err(X509Error::SignatureVerificationError) if is_checkable(algorithm, key) => Signature::Broken,
        Err(_) => unchecked(),
    }
}

fn oid(algorithm: &AlgorithmIdentifier) -> String {
    algorithm.algorithm.to_id_string()
}

/// The kind of key that an algorithm of a signature or a key belongs to.
fn family(oid: &str) -> Option<&'static str> {
    const FAMILIES: [(&str, &str); 5] = [
        ("1.2.840.113549.1.1.", "RSA"),
        ("1.2.840.10045.2.", "EC"),
        ("1.2.840.10045.4.", "EC"),
        ("1.3.101.112", "Ed25519"),
        ("1.3.101.113", "Ed448"),
    ];
    FAMILIES.iter().find(|(start, _)| oid.starts_with(start)).map(|(_, family)| *family)
}

/// Whether a refusal of the library means a wrong signature: it also refuses keys and parameters that it does not
/// support, and does not say which of the two it was.
fn is_checkable(algorithm: &AlgorithmIdentifier, key: &SubjectPublicKeyInfo) -> bool {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let of_sha1 = matches!(oid(algorithm).as_str(), "1.2.840.113549.1.1.5" | "1.3.14.3.2.29");
            let least = if of_sha1 { RSA_BITS_OF_SHA1 } else { *RSA_BITS.start() };
            let exponent = rsa.try_exponent().unwrap_or(0);
            (least..=*RSA_BITS.end()).contains(&rsa_bits(&rsa))
                && RSA_EXPONENTS.contains(&exponent)
                && exponent % 2 == 1
                && has_usual_padding(algorithm)
        }
        // Only points that are not compressed.
        Ok(PublicKey::EC(point)) => point.data().first() == Some(&4),
        Ok(_) => family(&oid(&key.algorithm)) == Some("Ed25519"),
        Err(_) => false,
    }
}

/// RSASSA-PSS is supported with one hash for both its uses, and a salt as long as it.
fn has_usual_padding(algorithm: &AlgorithmIdentifier) -> bool {
    const PSS: &str = "1.2.840.113549.1.1.10";
    if oid(algorithm) != PSS {
        return true;
    }
    let parameters = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
    let Some(parameters) = parameters else { return false };
    let hash = parameters.hash_algorithm_oid().to_id_string();
    let bytes = match hash.as_str() {
        "2.16.840.1.101.3.4.2.1" => 32,
        "2.16.840.1.101.3.4.2.2" => 48,
        "2.16.840.1.101.3.4.2.3" => 64,
        _ => return false,
    };
    let mask = parameters.mask_gen_algorithm().map(|mask| mask.hash.to_id_string());
    parameters.salt_length() == bytes && mask.is_ok_and(|mask| mask == hash)
}

/// Bits of the modulus, without leading zeros.
pub fn rsa_bits(key: &RSAPublicKey) -> usize {
    let Some(first) = key.modulus.iter().position(|byte| *byte != 0) else { return 0 };
    let leading = key.modulus.get(first).map_or(0, |byte| byte.leading_zeros() as usize);
    (key.modulus.len() - first) * 8 - leading
}

/// Names of algorithms that the library does not check, and the number of any other.
fn algorithm_name(oid: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("1.2.840.113549.1.1.2", "RSA with MD2"),
        ("1.2.840.113549.1.1.4", "RSA with MD5"),
        ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
        ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
        ("1.2.840.113549.1.1.11", "RSA with SHA-256"),
        ("1.2.840.113549.1.1.12", "RSA with SHA-384"),
        ("1.2.840.113549.1.1.13", "RSA with SHA-512"),
        ("1.2.840.113549.1.1.14", "RSA with SHA-224"),
        ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
        ("1.2.840.10045.4.3.1", "ECDSA with SHA-224"),
        ("1.2.840.10045.4.3.2", "ECDSA with SHA-256"),
        ("1.2.840.10045.4.3.3", "ECDSA with SHA-384"),
        ("1.2.840.10045.4.3.4", "ECDSA with SHA-512"),
        ("1.3.101.113", "Ed448"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == oid);
    name.map_or_else(|| format!("algorithm {oid}"), |(_, name)| (*name).to_owned())
}

/// The same of two certificates in DER.
pub fn of(own: &[u8], issuer: &[u8]) -> Signature {
    match (X509Certificate::from_der(own), X509Certificate::from_der(issuer)) {
        (Ok((_, own)), Ok((_, issuer))) => check(&own, &issuer),
        _ => Signature::Unchecked("a certificate that does not parse".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_pem;

    fn look(pem: &str) -> Signature {
        let chain = parse_pem("x", pem).unwrap();
        chain[0].signature_by(&chain[1])
    }

    #[test]
    fn what_the_library_cannot_check_is_unchecked_and_not_broken() {
        let unchecked = |kind: &str| Signature::Unchecked(kind.to_owned());
        assert_eq!(look(include_str!("samples/ecdsa-p256-sha512.pem")), unchecked("ECDSA with SHA-512"));
        assert_eq!(look(include_str!("samples/ecdsa-p521-sha256.pem")), unchecked("ECDSA with SHA-256"));
        assert_eq!(look(include_str!("samples/ecdsa-compressed-point.pem")), unchecked("ECDSA with SHA-256"));
        assert_eq!(look(include_str!("samples/rsa-1024-sha256.pem")), unchecked("RSA with SHA-256"));
        assert_eq!(look(include_str!("samples/rsa-pss-short-salt.pem")), unchecked("RSASSA-PSS"));
    }

    #[test]
    fn a_key_of_another_family_cannot_have_made_a_signature() {
        let ec = parse_pem("x", include_str!("samples/ecdsa-p256-sha512.pem")).unwrap();
        let rsa = parse_pem("x", include_str!("samples/rsa-1024-sha256.pem")).unwrap();
        assert_eq!(ec[0].signature_by(&rsa[1]), Signature::Broken);
        assert_eq!(rsa[0].signature_by(&ec[1]), Signature::Broken);
    }
}
