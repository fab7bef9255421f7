//! The public half of a private key, so that a check can compare it with a certificate without seeing the key.

use std::path::Path;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use warden_host::{Cause, Data, FILE_BYTES, NO_PRIVATE_KEY};
use warden_platform::sha256::hex;

use super::files::{open, read_up_to};

pub fn public_half(path: &str) -> Result<Data, Cause> {
    public_half_of(open(Path::new(path))?.0)
}

pub(super) fn public_half_of(file: std::fs::File) -> Result<Data, Cause> {
    let (pem, _) = read_up_to(file, FILE_BYTES)?;
    let no_key = |_| Cause::Other(NO_PRIVATE_KEY.to_owned());
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(no_key)?;
    let unusable = || Cause::Other("holds a private key of an unsupported kind".to_owned());
    let key = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| unusable())?;
    let spki = key.public_key().ok_or_else(unusable)?;
    let spki_sha256 = hex(&Sha256::digest(spki.as_ref()));
    Ok(Data::PublicKey { algorithm: format!("{:?}", key.algorithm()), spki_sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_of_a_key_file_is_told_and_nothing_else() {
        let key = rcgen::KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, key.serialize_pem()).unwrap();
        let digest = hex(&Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)));
        let answer = public_half(path.to_str().unwrap()).unwrap();
        assert_eq!(answer, Data::PublicKey { algorithm: "ECDSA".to_owned(), spki_sha256: digest });

        std::fs::write(&path, "not a key").unwrap();
        assert_eq!(public_half(path.to_str().unwrap()), Err(Cause::Other(NO_PRIVATE_KEY.to_owned())));
    }
}
