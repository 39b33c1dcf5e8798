//! The commit of a backup: everything durable, every pack there and whole, then one create-only PUT that decides.

use hardstorage_codec::{SigningKey, fingerprint};
use hardstorage_report::{Error, Result, code};

use super::{Manifest, PackId, is_gone, load, signed, void};
use crate::document::{self, Made};
use crate::listing::Objects;
use crate::{Deployment, layout};

/// A pack that a backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedPack {
    /// Which.
    pub pack: PackId,
    /// Its length in bytes.
    pub length: u64,
}

/// A commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The hash of the stored manifest.
    pub hash: [u8; 32],
    /// Its length in bytes.
    pub stored_bytes: u64,
}

impl Manifest {
    /// Commits. `packs` are all that the backup needs, its own and older ones, in any order. Safe to repeat with the
    /// same manifest: when the answer to an earlier try was lost, the identical bytes are found and that is success.
    pub async fn commit(
        &self,
        deployment: &Deployment,
        key: &SigningKey,
        packs: impl IntoIterator<Item = ExpectedPack>,
    ) -> Result<Committed> {
        deployment.writable()?;
        self.check(deployment, key).await?;
        let name = self.backup_id.as_str();
        let bytes = signed::sign(self, key, name)?;
        let store = deployment.store();
        store.sync().await?;
        let mut packs: Vec<ExpectedPack> = packs.into_iter().collect();
        packs.sort_unstable();
        check_packs(deployment, &packs).await?;
        let object = layout::manifest(deployment.name(), &self.backup_id);
        let found = match document::create(store, &object, &bytes).await? {
            Made::Ours => {
                store.sync().await?;
                // Its void may have been collected meanwhile: the name was free, and the backup is gone all the same.
                if is_gone(deployment, &self.backup_id, self.writer.id).await? {
                    let message = format!("backup {name} was declared void and collected before its commit");
                    return Err(Error::new(code::repository::BACKUP_VOID, message));
                }
                return Ok(Committed {
                    hash: hardstorage_codec::plain_hash(&bytes),
                    stored_bytes: bytes.len() as u64,
                });
            }
            Made::Theirs(found) => found,
        };
        if void::is_void(&found) {
            let void = void::open(deployment, &self.backup_id, &found)?;
            let message = format!("backup {name} was declared void before its commit: {}", void.reason);
            return Err(Error::new(code::repository::BACKUP_VOID, message));
        }
        let conflict = Error::new(
            code::repository::COMMIT_CONFLICT,
            format!("another object lies at {object}, where backup {name} should be committed"),
        );
        Err(match load::open(deployment, &self.backup_id, &found).await {
            Ok(_) => conflict,
            Err(error) => conflict.source(error),
        })
    }

    // A manifest that nobody could read back must not be committed.
    async fn check(&self, deployment: &Deployment, key: &SigningKey) -> Result<()> {
        let wrong = |what: String| Err(Error::new(code::repository::MANIFEST_CORRUPT, what));
        let id = &self.backup_id;
        if self.deployment != *deployment.name() || id.deployment() != deployment.name().as_str() {
            return wrong(format!("backup {id} is not one of deployment {}", deployment.name()));
        }
        if self.data_key_id != *deployment.key().id() {
            return wrong(format!("backup {id} names another data key than the deployment's"));
        }
        let public = key.public();
        if self.signer != fingerprint(&public) {
            return wrong(format!("backup {id} names another signer than the one that signs it"));
        }
        if deployment.signer(&self.signer).await? != public {
            return wrong(format!(
                "the signer of backup {id} is not the one that the deployment knows by this name"
            ));
        }
        Ok(())
    }
}

/// Lists the deployment's packs once and checks that each expected one is there and whole. `packs` is sorted.
async fn check_packs(deployment: &Deployment, packs: &[ExpectedPack]) -> Result<()> {
    let folder = layout::packs_folder(deployment.name());
    let mut stored = Objects::under(deployment.store(), folder.clone());
    let mut wanted = packs.iter();
    let Some(mut next) = wanted.next() else { return Ok(()) };
    while let Some(object) = stored.next().await? {
        let Some(pack) = layout::pack_id(&folder, &object.key) else {
            continue;
        };
        // Both sides sort by writer, then number.
        while pack >= next.pack {
            if pack > next.pack {
                return Err(missing(deployment, next, "is missing"));
            }
            if object.size != next.length {
                let what = format!("has {} bytes instead of {}", object.size, next.length);
                return Err(missing(deployment, next, &what));
            }
            match wanted.next() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
    }
    Err(missing(deployment, next, "is missing"))
}

fn missing(deployment: &Deployment, pack: &ExpectedPack, what: &str) -> Error {
    let key = layout::pack(deployment.name(), &pack.pack.writer, pack.pack.sequence);
    Error::new(
        code::repository::PACK_MISSING,
        format!("pack {key} {what}; nothing was committed"),
    )
    .hint("run the backup again; it stores what is missing")
}
