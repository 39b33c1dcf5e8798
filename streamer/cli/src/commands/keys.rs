//! `keyring show|export|import`, `slot drop` and `self install`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hardstorage_engine::audit;
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_repository::{AuditAction, AuditEvent, Keyring, Mode, Surroundings, kek_fingerprint};
use serde::Serialize;
use serde_json::json;

use super::run::Running;
use crate::app::App;
use crate::args::KeyringCommand;
use crate::config::private_folder;
use crate::printer::Report;

/// The files of a keyring that are worth keeping.
const FILES: [&str; 3] = ["kek.bin", "manifest_signing.ed25519", "manifest_signing.pub"];

fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

/// What there is.
#[derive(Debug, Serialize)]
pub(crate) struct KeyringResult {
    directory: PathBuf,
    done: &'static str,
    kek_fingerprint: Option<String>,
    signer_fingerprint: Option<String>,
    exported: Option<bool>,
}

impl Report for KeyringResult {
    fn text(&self) -> String {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut out = format!(
            "Keyring:      {} ({})\nKEK:          {}\nSigning key:  {}\n",
            self.directory.display(),
            self.done,
            dash(&self.kek_fingerprint),
            dash(&self.signer_fingerprint),
        );
        if self.exported == Some(false) {
            out.push_str("! never exported: pg_hardstorage keyring export DIR\n");
        }
        out
    }
}

fn describe(keyring: &Keyring, directory: &Path, done: &'static str) -> Result<KeyringResult> {
    let kek = keyring.kek()?;
    let signer = keyring
        .signing_key()?
        .map(|key| hardstorage_codec::fingerprint(&key.public()));
    Ok(KeyringResult {
        directory: directory.to_owned(),
        done,
        exported: match &kek {
            Some(kek) => Some(keyring.is_exported(kek)?),
            None => None,
        },
        kek_fingerprint: kek.as_ref().map(kek_fingerprint),
        signer_fingerprint: signer,
    })
}

/// Copies key files, each created once: a key that is there is never overwritten.
fn copy_keys(from: &Path, to: &Path) -> Result<usize> {
    let mut copied = 0;
    for name in FILES {
        let bytes = match fs::read(from.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", &from.join(name))(error)),
        };
        let path = to.join(name);
        let mut file = match fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if fs::read(&path).map_err(failed("read", &path))? == bytes {
                    continue;
                }
                return Err(Error::new(
                    code::repository::KEY_EXISTS,
                    format!("{} is there and is another key", path.display()),
                ));
            }
            Err(error) => return Err(failed("create", &path)(error)),
        };
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // A part of a key opens nothing, and stands in the way of the whole one. The first error is the one that counts.
            let _ = fs::remove_file(&path);
        }
        written.map_err(failed("write", &path))?;
        copied += 1;
    }
    fs::File::open(to)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", to))?;
    Ok(copied)
}

/// Runs one of them.
pub(crate) fn keyring(app: &App, command: KeyringCommand) -> Result<KeyringResult> {
    if let (Some(dir), KeyringCommand::Export { .. } | KeyringCommand::Import { .. }) =
        (app.credentials_dir(), &command)
    {
        return Err(Error::new(
            code::usage::INVALID,
            format!("the keys in {} belong to whoever put them there", dir.display()),
        )
        .hint("without --credentials-dir the keyring is exported or imported"));
    }
    let own = app.credentials_dir().unwrap_or(app.keyring_dir()).to_owned();
    let keyring = app.keyring();
    match command {
        KeyringCommand::Show => describe(&keyring, &own, "in use"),
        KeyringCommand::Export { dir } => {
            let Some(kek) = keyring.kek()? else {
                return Err(Error::new(
                    code::repository::KEY_MISSING,
                    format!("{} holds no key", own.display()),
                ));
            };
            let made = fs::DirBuilder::new().mode(0o700).create(&dir);
            made.map_err(failed("make", &dir))?;
            if let Err(error) = copy_keys(&own, &dir) {
                // Only when nothing is in it: then the same command can be given again.
                let _ = fs::remove_dir(&dir);
                return Err(error);
            }
            keyring.mark_exported(&kek, &Surroundings::default())?;
            describe(&keyring, &dir, "exported")
        }
        KeyringCommand::Import { dir } => {
            private_folder(&own).map_err(failed("make", &own))?;
            if Keyring::open(&dir).kek()?.is_none() {
                return Err(Error::new(
                    code::repository::KEY_MISSING,
                    format!("{} holds no key", dir.display()),
                ));
            }
            copy_keys(&dir, &own)?;
            describe(&app.keyring(), &own, "imported")
        }
    }
}

/// What was dropped.
#[derive(Debug, Serialize)]
pub(crate) struct SlotResult {
    deployment: DeploymentName,
    slot: String,
}

impl Report for SlotResult {
    fn text(&self) -> String {
        format!("✓ slot {} dropped; no backup and no WAL was touched\n", self.slot)
    }
}

/// `slot drop DEPLOYMENT`.
pub(crate) async fn drop_slot(
    app: &App,
    deployment: DeploymentName,
    given: Option<&str>,
    slot: Option<&str>,
) -> Result<SlotResult> {
    let slot = app.slot(slot, &deployment)?;
    let mut connection = app.source_from(given, &deployment)?.connect().await?;
    connection.drop_slot(&slot, false).await?;
    connection.close().await;
    Ok(SlotResult { deployment, slot })
}

/// Records it in the audit chain, where the configuration says in which repository that is. The database alone is
/// enough to drop a slot: without a repository, or a deployment in it, there is nothing to record in.
pub(crate) async fn slot_dropped(app: &App, dropped: &SlotResult, run_id: Option<String>, running: &Running) {
    let name = &dropped.deployment;
    let Some(url) = app.deployment(name).repo else {
        return;
    };
    let opened = async { app.repository(&url, Mode::Read).await?.deployment(name).await };
    match audit::in_time(opened).await {
        Ok(deployment) => {
            let event = AuditEvent::new(AuditAction::SlotDropped, run_id).body(json!({"slot": dropped.slot}));
            audit::record(&deployment, &event, running.sink.as_ref()).await;
        }
        Err(error) if error.is(code::repository::DEPLOYMENT_MISSING) => {}
        Err(error) => running.sink.emit(audit::not_recorded(&error).deployment(name)),
    }
}

/// Where it lies now.
#[derive(Debug, Serialize)]
pub(crate) struct InstallResult {
    path: PathBuf,
}

impl Report for InstallResult {
    fn text(&self) -> String {
        format!("✓ installed {}\n", self.path.display())
    }
}

/// `self install DIR`: whole or not at all, and replacing a running one is fine.
pub(crate) fn install(dir: &Path) -> Result<InstallResult> {
    let own = std::env::current_exe().map_err(failed("find", Path::new("this program")))?;
    let temporary = dir.join(format!(".pg_hardstorage.{}", std::process::id()));
    let path = dir.join("pg_hardstorage");
    let installed = copy_program(&own, &temporary).and_then(|()| {
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
        let folder = fs::File::open(dir).and_then(|folder| folder.sync_all());
        folder.map_err(failed("sync", dir))
    });
    if installed.is_err() {
        // The first error is the one that counts; what it left may be nothing.
        let _ = fs::remove_file(&temporary);
    }
    installed.map(|()| InstallResult { path })
}

/// A volume may be short of space: the copy gets its name only when every byte of it is there.
fn copy_program(own: &Path, temporary: &Path) -> Result<()> {
    fs::copy(own, temporary).map_err(failed("copy to", temporary))?;
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o755)).map_err(failed("set the mode of", temporary))?;
    let file = fs::File::open(temporary).and_then(|file| file.sync_all());
    file.map_err(failed("sync", temporary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    #[test]
    fn a_key_that_was_never_exported_is_said_so() {
        let mut result = KeyringResult {
            directory: PathBuf::from("/etc/pg_hardstorage/keyring"),
            done: "in use",
            kek_fingerprint: Some("0f1e2d3c4b5a6978".to_owned()),
            signer_fingerprint: Some("8796a5b4c3d2e1f0".to_owned()),
            exported: Some(false),
        };
        insta::assert_snapshot!(shown("keyring show", &result));
        result.exported = Some(true);
        assert!(!result.text().contains("never"), "{}", result.text());
    }

    #[test]
    fn an_empty_keyring() {
        let result = KeyringResult {
            directory: PathBuf::from("/etc/pg_hardstorage/keyring"),
            done: "in use",
            kek_fingerprint: None,
            signer_fingerprint: None,
            exported: None,
        };
        insta::assert_snapshot!(result.text());
    }
}
