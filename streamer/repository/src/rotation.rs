//! Changing the KEK: every data key and every signer gets a generation under the new one, then the next policy makes it
//! the repository's own. Nothing that is stored is rewritten, and at every moment one of the two keys opens all.

use hardstorage_codec::Secret;
use hardstorage_report::{Error, Result, code};

use serde_json::json;

use crate::keys::{RootKey, Signers};
use crate::{AuditAction, AuditEvent, Repository};

/// What a rotation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Data keys wrapped anew.
    pub data_keys: usize,
    /// Signers sealed anew.
    pub signers: usize,
}

impl Repository {
    /// Wraps every data key and seals every signer anew under another KEK, then makes that the repository's own.
    /// Open the repository with the old KEK. Running it again after a crash is fine: when the repository is already
    /// under the new KEK, only what the old one still holds is taken over.
    pub async fn rotate_kek(&self, from: &Secret, to: &Secret) -> Result<Rotation> {
        self.0.writable()?;
        if !self.0.root.seals() {
            let message = "the repository is not encrypted: it has no key to rotate";
            return Err(Error::new(code::repository::ENCRYPTION_MISMATCH, message));
        }
        let (from, to) = (RootKey::kek(from.clone()), RootKey::kek(to.clone()));
        let ours = self.0.root.fingerprint();
        if ours != from.fingerprint() && ours != to.fingerprint() {
            let message = "neither the old nor the new key is the one that this repository is open with";
            return Err(Error::new(code::repository::KEY_WRONG, message));
        }
        let mut done = self.rewrap_all(&from, &to).await?;
        let mut rotated = self.clone();
        if ours == from.fingerprint() && from.fingerprint() != to.fingerprint() {
            let policy = self.0.policy.next(&to, self.0.surroundings.now())?;
            policy.create(&self.0.store, &to).await?;
            // What a writer made while we went through; from here on new ones see that their KEK is old.
            let late = self.rewrap_all(&from, &to).await?;
            done.data_keys += late.data_keys;
            done.signers += late.signers;
            rotated = self.under(policy, to.clone());
        }
        if done != Rotation::default() {
            let body = json!({"from": from.fingerprint(), "to": to.fingerprint()});
            let event = AuditEvent::new(AuditAction::KekRotated, None).body(body);
            rotated.audit_done(&event).await;
        }
        Ok(done)
    }

    async fn rewrap_all(&self, from: &RootKey, to: &RootKey) -> Result<Rotation> {
        let mut done = Rotation::default();
        for name in self.deployments().await? {
            if self.0.shelf().rewrap(&name, from, to).await? {
                done.data_keys += 1;
            }
            done.signers += Signers::reseal(self.0.shelf(), &name, from, to).await?;
        }
        Ok(done)
    }
}
