//! `repo init`: an empty place becomes a repository.

use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};
use hardstorage_repository::{InitOptions, Probe, RepoConfig, Repository, Surroundings};
use serde::Serialize;

use crate::app::App;
use crate::commands::version_line;
use crate::printer::Report;

/// What was made.
#[derive(Debug, Serialize)]
pub(super) struct InitResult {
    url: String,
    id: String,
    encrypted: bool,
    kek_generated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_path: Option<PathBuf>,
    create_only_proven: bool,
}

impl Report for InitResult {
    fn text(&self) -> String {
        let mut out = format!(
            "✓ Repository initialised\nURL:         {}\nID:          {}\n",
            self.url, self.id
        );
        match (&self.kek_path, self.encrypted) {
            (Some(path), true) => {
                let word = if self.kek_generated { "generated" } else { "used" };
                out.push_str(&format!(
                    "Encryption:  AES-256-GCM (KEK {word} at {})\n",
                    path.display()
                ));
                out.push_str(
                    "\n! Copy the key elsewhere, or nothing can be restored: pg_hardstorage keyring export DIR\n",
                );
            }
            _ => out.push_str("Encryption:  none\n"),
        }
        if !self.create_only_proven {
            out.push_str("! The store does not keep create-only writes: run one writer at a time\n");
        }
        out
    }
}

/// Order matters: what is there is looked at before a key is made, and a key is made only for what is made now.
pub(super) async fn init(app: &App, url: String, no_encryption: bool, single_writer: bool) -> Result<InitResult> {
    let store = app.store(&url, true, false).await?;
    if let Probe::Present(_) = Repository::probe(&store).await? {
        return Err(Error::new(
            code::repository::EXISTS,
            format!("{url} holds a repository already"),
        ));
    }
    let keyring = app.keyring();
    let surroundings = Surroundings::default();
    let (kek, kek_generated) = match (no_encryption, keyring.kek()?) {
        (true, _) => (None, false),
        (false, Some(kek)) => (Some(kek), false),
        // Single files are made by whoever mounts them: a missing one is an error, never a reason to make a key.
        (false, None) if app.credentials_dir().is_some() => {
            let path = keyring.kek_path().unwrap_or(Path::new("kek")).display().to_string();
            return Err(Error::new(
                code::repository::KEY_MISSING,
                format!("there is no key at {path}"),
            ));
        }
        (false, None) => (Some(keyring.create_kek(&surroundings)?), true),
    };
    let encrypted = kek.is_some();
    let options = InitOptions {
        kek,
        single_writer,
        config: RepoConfig::default(),
        created_by: version_line(),
        surroundings,
    };
    let repository = Repository::init(store, options).await?;
    Ok(InitResult {
        url,
        id: hex::encode(repository.descriptor().repository_id),
        encrypted,
        kek_generated,
        kek_path: keyring.kek_path().filter(|_| encrypted).map(Path::to_owned),
        create_only_proven: repository.create_only_proven(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    fn result() -> InitResult {
        InitResult {
            url: "file:///srv/backup".to_owned(),
            id: "00112233445566778899aabbccddeeff".to_owned(),
            encrypted: true,
            kek_generated: true,
            kek_path: Some(PathBuf::from("/etc/pg_hardstorage/keyring/kek.bin")),
            create_only_proven: true,
        }
    }

    #[test]
    fn a_key_that_was_made_must_be_copied() {
        insta::assert_snapshot!(shown("repo init", &result()));
    }

    #[test]
    fn in_clear_and_for_one_writer() {
        let mut result = result();
        (result.encrypted, result.kek_generated, result.kek_path) = (false, false, None);
        result.create_only_proven = false;
        insta::assert_snapshot!(shown("repo init", &result));
    }
}
