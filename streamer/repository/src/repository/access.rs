//! How a repository is opened: by whom, for what, with which key.

use hardstorage_codec::{PublicKey, Secret};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::DynStore;

use crate::keys::RootKey;
use crate::{Descriptor, Encryption, Surroundings};

/// What the caller is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Read. Sessions of readers are written all the same.
    Read,
    /// Write.
    Write,
}

/// How a repository is opened.
#[derive(Debug, Clone)]
pub struct Access {
    /// The KEK, if the caller has one.
    pub kek: Option<Secret>,
    /// Read or write.
    pub mode: Mode,
    /// The caller said explicitly that he wants an unencrypted repository.
    pub no_encryption: bool,
    /// Believe these signers only.
    pub only_signers: Option<Vec<PublicKey>>,
    /// The deployment that is opened right after: its key is read together with what every repository is opened by.
    pub deployment: Option<DeploymentName>,
    /// Clock and randomness.
    pub surroundings: Surroundings,
}

impl Access {
    /// With this key, if any, in this mode, with the machine's clock and randomness.
    pub fn new(kek: Option<Secret>, mode: Mode) -> Access {
        Access {
            kek,
            mode,
            no_encryption: false,
            only_signers: None,
            deployment: None,
            surroundings: Surroundings::default(),
        }
    }
}

/// Whether caller and repository agree about encryption, and the key that follows. Rests on an unproven claim; the
/// caller proves the descriptor under this key right after.
pub(super) fn agree(descriptor: &Descriptor, access: &Access, store: &DynStore) -> Result<RootKey> {
    let url = store.url();
    let mismatch = |message: String| Err(Error::new(code::repository::ENCRYPTION_MISMATCH, message));
    match (descriptor.encryption, &access.kek) {
        (Encryption::Required, _) if access.no_encryption => mismatch(format!(
            "the repository {url} is encrypted, and the caller asked for no encryption"
        )),
        (Encryption::Required, Some(kek)) => Ok(RootKey::kek(kek.clone())),
        (Encryption::Required, None) => {
            let fingerprint = descriptor.kek_fingerprint.as_deref().unwrap_or("unknown");
            let message =
                format!("the repository {url} is encrypted with a key (fingerprint {fingerprint}) that is not here");
            Err(Error::new(code::repository::KEY_MISSING, message))
        }
        (Encryption::None, Some(_)) if access.mode == Mode::Write && !access.no_encryption => mismatch(format!(
            "the repository {url} claims to be unencrypted, and the caller has a key"
        )),
        (Encryption::None, _) => Ok(RootKey::public()),
    }
}
