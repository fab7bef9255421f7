//! `warden snapshot --encrypt-to`: what the recipient gets, and what nobody else does.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use age::secrecy::ExposeSecret;
use age::x25519::Identity;

fn warden(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap()
}

fn snapshot(more: &[&str], folder: &Path) -> Output {
    let host = format!("{}/tests/hosts/healthy-debian", env!("CARGO_MANIFEST_DIR"));
    warden(&[&["snapshot", "--host", &host, "--fail-on=never"], more].concat(), folder)
}

fn decrypted(path: &Path, identity: &Identity) -> Result<Vec<u8>, age::DecryptError> {
    let decryptor = age::Decryptor::new(std::fs::File::open(path).unwrap())?;
    let mut content = Vec::new();
    decryptor.decrypt(std::iter::once(identity as &dyn age::Identity))?.read_to_end(&mut content).unwrap();
    Ok(content)
}

#[test]
fn each_recipient_and_nobody_else_reads_the_bundle_and_it_never_lies_there_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
    let to = [ours.to_public().to_string(), theirs.to_public().to_string()];
    let output = snapshot(&["-o", "a.zip", "--encrypt-to", &to[0], "--encrypt-to", &to[1]], folder.path());
    assert!(output.status.success(), "{output:?}");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.zip.age"]);
    assert!(snapshot(&["-o", "plain.zip"], folder.path()).status.success());
    let plain = std::fs::read(folder.path().join("plain.zip")).unwrap();
    let path = folder.path().join("a.zip.age");
    assert!(decrypted(&path, &ours).unwrap() == plain);
    assert!(decrypted(&path, &theirs).unwrap() == plain);
    assert!(matches!(decrypted(&path, &stranger), Err(age::DecryptError::NoMatchingKeys)));
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"report"), "no name of a file is in it");

    for verb in [&["verify", "a.zip.age"][..], &["diff", "plain.zip", "a.zip.age"]] {
        let output = warden(verb, folder.path());
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            told.contains("it is encrypted; `age --decrypt` with the recipient's key opens it"),
            "{told}"
        );
    }
}

#[test]
fn the_default_name_and_standard_output_are_encrypted_too() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    let to = identity.to_public().to_string();
    assert!(snapshot(&["--encrypt-to", &to], folder.path()).status.success());
    let entry = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    let name = entry.file_name().into_string().unwrap();
    assert!(name.starts_with("warden-") && name.ends_with(".zip.age"), "{name}");
    let output = snapshot(&["--encrypt-to", &to, "-o", "-"], folder.path());
    assert!(output.stdout.starts_with(b"age-encryption.org/v1\n"));
}

#[test]
fn what_is_no_recipient_is_refused_before_the_work_and_a_secret_key_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let secret = Identity::generate().to_string().expose_secret().to_owned();
    for (to, message) in [
        (secret.as_str(), "error: this is the secret half of a key"),
        ("age1xyz", "error: this is no age recipient; one begins with `age1`"),
        ("ssh-ed25519 AAAA", "error: this is no age recipient"),
    ] {
        let output = snapshot(&["-o", "a.zip", "--encrypt-to", to], folder.path());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.starts_with(message) && !told.contains(&secret), "{told}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
