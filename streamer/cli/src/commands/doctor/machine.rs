//! This machine's side: where configuration and keys lie, and whether they are there and private.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hardstorage_repository::{Keyring, kek_fingerprint};
use serde::Serialize;

use super::issue::Issue;
use crate::app::App;

/// A directory or a file that is used when it is there.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    /// Its permissions, as `ls` writes them; none when it is not there.
    pub(super) mode: Option<String>,
}

impl Place {
    fn look(name: &'static str, path: &Path) -> Place {
        let mode = fs::metadata(path)
            .ok()
            .map(|found| letters(found.permissions().mode(), found.is_dir()));
        Place {
            name,
            path: path.to_owned(),
            mode,
        }
    }
}

/// Permissions as `ls` writes them.
fn letters(mode: u32, is_dir: bool) -> String {
    let bits = (0..9).rev().map(|bit| {
        let letter = ['x', 'w', 'r'][bit as usize % 3];
        if mode & (1 << bit) == 0 { '-' } else { letter }
    });
    std::iter::once(if is_dir { 'd' } else { '-' }).chain(bits).collect()
}

/// The keys that are at hand.
#[derive(Debug, Serialize)]
pub(super) struct Keys {
    pub(super) directory: PathBuf,
    pub(super) kek_fingerprint: Option<String>,
    pub(super) signer_fingerprint: Option<String>,
    /// Whether the key was ever copied elsewhere.
    pub(super) exported: Option<bool>,
}

/// The directories of this user or of the service.
pub(super) fn places(app: &App) -> Vec<Place> {
    let drop_ins = app.config_file.with_file_name("conf.d");
    vec![
        Place::look("Config", &app.config_file),
        Place::look("drop-in", &drop_ins),
        Place::look("keyring", app.keyring_dir()),
        Place::look("State", &app.paths.state),
        Place::look("Cache", &app.paths.cache),
    ]
}

/// Reads the keys.
pub(super) fn keys(app: &App, issues: &mut Vec<Issue>) -> Keys {
    let keyring = app.keyring();
    let subject = "keyring";
    let mut told = |error| issues.push(Issue::of(&error, subject));
    let kek = keyring.kek().unwrap_or_else(|error| {
        told(error);
        None
    });
    let signer = keyring.signing_key().unwrap_or_else(|error| {
        told(error);
        None
    });
    let exported = kek.as_ref().and_then(|kek| exported(&keyring, kek, &mut told));
    if exported == Some(false) {
        issues.push(Issue::warning(
            "key.not_exported",
            subject,
            "the key was never copied elsewhere: with this machine every backup would be lost",
            "pg_hardstorage keyring export DIR, and keep DIR apart from this machine and from the repository",
        ));
    }
    Keys {
        directory: app.keyring_dir().to_owned(),
        kek_fingerprint: kek.as_ref().map(kek_fingerprint),
        signer_fingerprint: signer.map(|key| hardstorage_codec::fingerprint(&key.public())),
        exported,
    }
}

fn exported(
    keyring: &Keyring,
    kek: &hardstorage_codec::Secret,
    told: &mut impl FnMut(hardstorage_report::Error),
) -> Option<bool> {
    match keyring.is_exported(kek) {
        Ok(exported) => Some(exported),
        Err(error) => {
            told(error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_as_ls_does() {
        assert_eq!(letters(0o700, true), "drwx------");
        assert_eq!(letters(0o100_644, false), "-rw-r--r--");
    }
}
