//! `audit/<deployment>/anchors/`: that an anchor was made, of which head, when, and to what kind of place. The anchor
//! itself lies elsewhere; the receipt lets `status` and `doctor` know that there is one, and proves nothing to those who
//! hold the key.

use hardstorage_report::{DeploymentName, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::anchor::Anchor;
use super::chain::{AuditLog, ChainHead};
use super::record::Month;
use super::walk::Claim;
use crate::document::{self, corrupt};
use crate::listing::Objects;
use crate::text_number::{decimal, hex_bytes};
use crate::{EnvelopeKind, layout};
use hardstorage_storage::Key;

const SCHEMA: &str = "hardstorage.anchor_receipt.v1";

/// Where an anchor went. Not its address: that is nobody's business who can read the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnchorKind {
    /// A file.
    File,
    /// Another repository.
    Repository,
    /// Printed.
    Paper,
}

/// That an anchor was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    schema: String,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The number of the head.
    #[serde(with = "decimal")]
    pub sequence: u64,
    /// The folder of the head.
    pub month: Month,
    /// The hash of the head's stored bytes.
    #[serde(with = "hex_bytes")]
    pub head: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// Where to.
    pub to: AnchorKind,
    #[serde(with = "hex_bytes")]
    nonce: [u8; 8],
}

impl Receipt {
    pub(super) fn claim(&self) -> Claim {
        Claim {
            source: "a receipt in the repository".to_owned(),
            sequence: self.sequence,
            hash: self.head.to_vec(),
            at: Some(self.at),
            within: true,
        }
    }
}

impl AuditLog {
    /// Notes that an anchor of this head was made, durable on return.
    pub async fn note(&self, head: &ChainHead, anchor: &Anchor, to: AnchorKind) -> Result<()> {
        let deployment = &self.deployment;
        deployment.descriptor().check_write()?;
        let receipt = Receipt {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            sequence: anchor.sequence,
            month: head.month,
            head: anchor.head,
            at: anchor.at,
            to,
            nonce: deployment.surroundings().random()?,
        };
        let key = layout::receipt(deployment.name(), receipt.sequence, receipt.nonce);
        let mac = deployment.key().mac(EnvelopeKind::Anchor);
        let bytes = document::encode(EnvelopeKind::Anchor, &mac, &key, &receipt)?;
        document::create(deployment.store(), &key, &bytes).await?;
        deployment.store().sync().await
    }

    async fn receipt(&self, key: &Key) -> Result<Receipt> {
        let deployment = &self.deployment;
        let mac = deployment.key().mac(EnvelopeKind::Anchor);
        let receipt: Receipt = document::read(deployment.store(), EnvelopeKind::Anchor, &mac, key)
            .await?
            .ok_or_else(|| corrupt(key, "listed, but not there"))?;
        let is_itself = receipt.schema == SCHEMA
            && receipt.deployment == *deployment.name()
            && layout::receipt(deployment.name(), receipt.sequence, receipt.nonce) == *key;
        document::must_be_itself(key, is_itself).map(|()| receipt)
    }

    async fn receipt_keys(&self) -> Result<Vec<Key>> {
        let folder = layout::receipts_folder(self.deployment.name());
        let objects = Objects::under(self.deployment.store(), folder).all().await?;
        Ok(objects.into_iter().map(|object| object.key).collect())
    }

    /// Every receipt, or what is wrong with it.
    pub(super) async fn receipts(&self) -> Result<Vec<Result<Receipt>>> {
        let mut all = Vec::new();
        for key in self.receipt_keys().await? {
            match self.receipt(&key).await {
                Err(error) if !error.is(hardstorage_report::code::repository::OBJECT_CORRUPT) => return Err(error),
                known => all.push(known),
            }
        }
        Ok(all)
    }

    /// The receipt of the newest head that was anchored: names sort by the head's number.
    pub async fn last_receipt(&self) -> Result<Option<Receipt>> {
        match self.receipt_keys().await?.last() {
            Some(key) => self.receipt(key).await.map(Some),
            None => Ok(None),
        }
    }
}
