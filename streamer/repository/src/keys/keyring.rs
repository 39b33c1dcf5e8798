//! The keyring: key files on the machine that runs us.
//!
//! `kek.bin` holds the 32 raw bytes of the KEK, `manifest_signing.ed25519` the 32 raw bytes of the signing key's seed,
//! `manifest_signing.pub` its public key as 64 hex digits and a newline. All are 0600 in a directory of 0700; a secret
//! that others may touch is refused (0400 is fine, and so are the links of a mounted secret; the group may read only what
//! belongs to root, as in a volume that a scheduler mounts).
//! A missing file is `None` only when the system says that it does not exist: an unreadable directory or a dangling
//! link is an error, or a lost mount would look like a fresh start. Files are made by an explicit call only, appear
//! whole, and are never overwritten.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hardstorage_codec::{PublicKey, Secret, SigningKey};
use hardstorage_report::{Error, Result, code};
use zeroize::Zeroizing;

use crate::Surroundings;
use crate::keys::root::kek_fingerprint;

const KEK: &str = "kek.bin";
const NEXT_KEK: &str = "kek-next.bin";
const SIGNING: &str = "manifest_signing.ed25519";
const PUBLIC: &str = "manifest_signing.pub";
const EXPORTED: &str = "exported";

/// Single files instead of a directory, as a scheduler mounts them.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles {
    /// The KEK.
    pub kek: Option<PathBuf>,
    /// The signing key's seed.
    pub signing: Option<PathBuf>,
}

/// Where key files lie.
#[derive(Debug, Clone)]
pub struct Keyring {
    directory: Option<PathBuf>,
    files: KeyFiles,
}

impl Keyring {
    /// The keyring in a directory, which need not exist yet. Touches nothing.
    pub fn open(directory: impl Into<PathBuf>) -> Keyring {
        let directory = directory.into();
        Keyring {
            files: KeyFiles {
                kek: Some(directory.join(KEK)),
                signing: Some(directory.join(SIGNING)),
            },
            directory: Some(directory),
        }
    }

    /// A keyring of single files; it never creates one.
    pub fn from_files(files: KeyFiles) -> Keyring {
        Keyring { directory: None, files }
    }

    /// Where the KEK lies or would lie.
    pub fn kek_path(&self) -> Option<&Path> {
        self.files.kek.as_deref()
    }

    /// The KEK, or `None` when its file does not exist.
    pub fn kek(&self) -> Result<Option<Secret>> {
        self.files.kek.as_deref().map_or(Ok(None), read_secret)
    }

    /// The signing key, or `None` when its file does not exist.
    pub fn signing_key(&self) -> Result<Option<SigningKey>> {
        let seed = self.files.signing.as_deref().map_or(Ok(None), read_secret)?;
        Ok(seed.map(|seed| SigningKey::new(&seed)))
    }

    /// Makes a KEK. Refused when there is one.
    pub fn create_kek(&self, surroundings: &Surroundings) -> Result<Secret> {
        self.create_secret(KEK, surroundings)
    }

    /// Makes the KEK that a rotation goes to, beside the present one; an unfinished rotation's is taken up again.
    pub fn stage_kek(&self, surroundings: &Surroundings) -> Result<Secret> {
        match read_secret(&self.directory()?.join(NEXT_KEK))? {
            Some(staged) => Ok(staged),
            None => self.create_secret(NEXT_KEK, surroundings),
        }
    }

    /// Ends a rotation: the staged KEK becomes the KEK, and the old one stays as `kek-<fingerprint>.bin`, because
    /// copies of the repository from before still need it. Returns where.
    pub fn promote_kek(&self) -> Result<PathBuf> {
        let directory = self.directory()?;
        let (kek, next) = (directory.join(KEK), directory.join(NEXT_KEK));
        let old = read_secret(&kek)?.ok_or_else(|| absent(&kek))?;
        read_secret(&next)?.ok_or_else(|| absent(&next))?;
        let kept = directory.join(format!("kek-{}.bin", kek_fingerprint(&old)));
        match fs::hard_link(&kek, &kept) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let same = read_secret(&kept)?.is_some_and(|found| found.expose() == old.expose());
                if !same {
                    return Err(exists(&kept));
                }
            }
            other => other.map_err(|error| failed("link", &kept, error))?,
        }
        fs::rename(&next, &kek).map_err(|error| failed("rename to", &kek, error))?;
        sync_directory(directory)?;
        Ok(kept)
    }

    /// The signing key, made when there is none. Only writers call this.
    pub fn ensure_signer(&self, surroundings: &Surroundings) -> Result<SigningKey> {
        let Some(directory) = self.directory.as_deref() else {
            let existing = self.signing_key()?;
            let path = self.files.signing.as_deref().unwrap_or(Path::new(SIGNING));
            return existing.ok_or_else(|| {
                Error::new(
                    code::repository::SIGNING_KEY_MISSING,
                    format!("there is no signing key at {}", path.display()),
                )
            });
        };
        let public_path = directory.join(PUBLIC);
        // The public half is made last, so it is looked for first: seen without the private one, that one is lost.
        let public = read_public(&public_path)?;
        let key = match (self.signing_key()?, &public) {
            (Some(key), _) => key,
            (None, Some(_)) => {
                let message = format!("{} is there without the private key beside it", public_path.display());
                return Err(Error::new(code::repository::SIGNING_KEY_MISSING, message));
            }
            (None, None) => match self.create_secret(SIGNING, surroundings) {
                Ok(seed) => SigningKey::new(&seed),
                // Another writer was faster: its key is ours.
                Err(error) if error.is(code::repository::KEY_EXISTS) => {
                    self.signing_key()?.ok_or_else(|| absent(&directory.join(SIGNING)))?
                }
                Err(error) => return Err(error),
            },
        };
        let public = if let Some(public) = public {
            public
        } else {
            let line = format!("{}\n", hex::encode(key.public().to_bytes()));
            match create_file(directory, PUBLIC, line.as_bytes(), surroundings) {
                Err(error) if error.is(code::repository::KEY_EXISTS) => {}
                other => other?,
            }
            read_public(&public_path)?.ok_or_else(|| absent(&public_path))?
        };
        if public != key.public() {
            let message = format!("{} does not belong to the private key beside it", public_path.display());
            return Err(Error::new(code::repository::KEY_MALFORMED, message));
        }
        Ok(key)
    }

    /// Remembers that this KEK was copied elsewhere.
    pub fn mark_exported(&self, kek: &Secret, surroundings: &Surroundings) -> Result<()> {
        let directory = self.directory()?;
        let line = format!("{} {}\n", kek_fingerprint(kek), surroundings.now());
        let path = directory.join(EXPORTED);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("write", &path, error))?;
        sync_directory(directory)
    }

    /// Whether this KEK was ever copied elsewhere. A keyring of single files is managed elsewhere: true.
    pub fn is_exported(&self, kek: &Secret) -> Result<bool> {
        let Some(directory) = self.directory.as_deref() else {
            return Ok(true);
        };
        let path = directory.join(EXPORTED);
        let fingerprint = kek_fingerprint(kek);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().any(|line| line.split(' ').next() == Some(&fingerprint))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    fn directory(&self) -> Result<&Path> {
        self.directory.as_deref().ok_or_else(|| {
            let message = "these keys are single files given from outside; this program does not make or change them";
            Error::new(code::repository::KEYRING_IO, message)
        })
    }

    fn create_secret(&self, file: &str, surroundings: &Surroundings) -> Result<Secret> {
        let directory = self.directory()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| failed("create", directory, error))?;
        let bytes = Zeroizing::new(surroundings.random::<32>()?);
        create_file(directory, file, bytes.as_slice(), surroundings)?;
        // What is used is what can be read back.
        let path = directory.join(file);
        read_secret(&path)?.ok_or_else(|| absent(&path))
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(code::repository::KEYRING_IO, format!("{doing} {}", path.display())).source(error)
}

fn absent(path: &Path) -> Error {
    Error::new(code::repository::KEYRING_IO, format!("{} is not there", path.display()))
}

fn exists(path: &Path) -> Error {
    Error::new(
        code::repository::KEY_EXISTS,
        format!("{} exists already", path.display()),
    )
}

fn malformed(path: &Path, what: &str) -> Error {
    Error::new(code::repository::KEY_MALFORMED, format!("{} {what}", path.display()))
}

// Opens a regular file; `None` only when the name itself does not exist.
fn open_present(path: &Path) -> Result<Option<File>> {
    match fs::metadata(path) {
        // Opening a pipe would wait for its writer.
        Ok(meta) if !meta.is_file() => return Err(malformed(path, "is not a regular file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Ok(_) => Err(failed("follow the link", path, error)),
                Err(error) => Err(failed("look at", path, error)),
            };
        }
        Err(error) => return Err(failed("look at", path, error)),
    }
    File::open(path).map(Some).map_err(|error| failed("open", path, error))
}

fn read_secret(path: &Path) -> Result<Option<Secret>> {
    let Some(file) = open_present(path)? else {
        return Ok(None);
    };
    let metadata = file.metadata().map_err(|error| failed("look at", path, error))?;
    let mode = metadata.mode();
    // A scheduler mounts secrets as files of root that the process's group may read; libpq allows its keys the same.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        let message = format!("{} has mode {:04o}: others may touch it", path.display(), mode & 0o7777);
        return Err(
            Error::new(code::repository::KEY_PERMISSIONS, message).hint(format!("chmod 600 {}", path.display()))
        );
    }
    // One byte more than a key, so that a longer file shows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    file.take(33)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", path, error))?;
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(Secret::new(key))),
        Err(_) => Err(malformed(path, "does not hold exactly 32 bytes")),
    }
}

fn read_public(path: &Path) -> Result<Option<PublicKey>> {
    let Some(file) = open_present(path)? else {
        return Ok(None);
    };
    let mut text = String::new();
    file.take(100)
        .read_to_string(&mut text)
        .map_err(|error| failed("read", path, error))?;
    let key = crate::text_number::from_hex(text.trim_end()).and_then(|bytes| PublicKey::from_bytes(&bytes));
    key.map(Some)
        .ok_or_else(|| malformed(path, "does not hold 64 hex digits of a public key"))
}

// The file appears whole or not at all, and never over another: written beside, synced, then linked.
fn create_file(directory: &Path, name: &str, bytes: &[u8], surroundings: &Surroundings) -> Result<()> {
    let path = directory.join(name);
    let draft = directory.join(format!(".{name}.{}", hex::encode(surroundings.random::<8>()?)));
    write_new(&draft, bytes)?;
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft).map_err(|error| failed("remove", &draft, error))?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(&path)),
        // File systems without hard links: exclusive creation must do.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            write_new(&path, bytes)?;
        }
        Err(error) => return Err(failed("create", &path, error)),
    }
    sync_directory(directory)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
        Err(error) => return Err(failed("create", path, error)),
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // Ours and short; if it cannot be removed either, readers refuse it for its length.
        let left = fs::remove_file(path).is_err();
        failed(if left { "write (a short file is left)" } else { "write" }, path, error)
    })
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| failed("sync", directory, error))
}

#[cfg(test)]
mod tests;
