//! `damage/`: stored frames that a reader found to be bad, so that the next backup stores their pages anew. The
//! object's name alone tells the frame; what it says is for people.

use std::collections::BTreeMap;

use hardstorage_report::{BackupId, DeploymentName, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made, corrupt};
use crate::listing::Objects;
use crate::{Deployment, EnvelopeKind, PackId, layout};

const SCHEMA: &str = "hardstorage.damage.v1";

/// A bad frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageRecord {
    schema: String,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The pack.
    #[serde(flatten)]
    pub pack: PackId,
    /// The frame.
    pub frame: u32,
    /// What was wrong with it.
    pub reason: String,
    /// When it was found.
    pub found_at: Timestamp,
    /// The backup that was being read, if any: it is hurt for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<BackupId>,
}

/// The bad frames of a deployment.
#[derive(Debug, Default)]
pub struct Damage {
    frames: BTreeMap<(PackId, u32), Result<DamageRecord>>,
}

impl Damage {
    /// Whether a frame is known to be bad.
    pub fn contains(&self, pack: PackId, frame: u32) -> bool {
        self.frames.contains_key(&(pack, frame))
    }

    /// Whether anything of a pack is.
    pub fn touches(&self, pack: PackId) -> bool {
        self.frames.range((pack, 0)..=(pack, u32::MAX)).next().is_some()
    }

    /// All of them. A record that is itself broken still names its frame.
    pub fn iter(&self) -> impl Iterator<Item = (PackId, u32, &Result<DamageRecord>)> {
        self.frames
            .iter()
            .map(|((pack, frame), record)| (*pack, *frame, record))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Reads them all.
    pub async fn load(deployment: &Deployment) -> Result<Damage> {
        let folder = layout::damage_folder(deployment.name());
        let mac = deployment.key().mac(EnvelopeKind::Damage);
        let mut damage = Damage::default();
        let mut objects = Objects::under(deployment.store(), folder.clone());
        while let Some(object) = objects.next().await? {
            let Some((pack, frame)) = layout::damaged_frame(&folder, &object.key) else {
                continue;
            };
            let stored = deployment.store().get(&object.key).await?;
            let record = stored
                .ok_or_else(|| corrupt(&object.key, "listed, but not there"))
                .and_then(|stored| document::decode(EnvelopeKind::Damage, &mac, &object.key, &stored))
                .and_then(|record: DamageRecord| {
                    let is_itself = record.schema == SCHEMA
                        && record.deployment == *deployment.name()
                        && (record.pack, record.frame) == (pack, frame);
                    is_itself
                        .then_some(record)
                        .ok_or_else(|| corrupt(&object.key, "it says that it is another object"))
                });
            damage.frames.insert((pack, frame), record);
        }
        Ok(damage)
    }

    /// Remembers a bad frame, durable on return. False when it was known. Readers may call it too: a store that takes
    /// no writes answers with its own error.
    pub async fn record(
        deployment: &Deployment,
        pack: PackId,
        frame: u32,
        reason: &str,
        backup_id: Option<&BackupId>,
    ) -> Result<bool> {
        deployment.descriptor().check_write()?;
        let record = DamageRecord {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            pack,
            frame,
            reason: reason.to_owned(),
            found_at: deployment.surroundings().now(),
            backup_id: backup_id.cloned(),
        };
        let key = layout::damage(deployment.name(), &pack.writer, pack.sequence, frame);
        let mac = deployment.key().mac(EnvelopeKind::Damage);
        let bytes = document::encode(EnvelopeKind::Damage, &mac, &key, &record)?;
        let made = document::create(deployment.store(), &key, &bytes).await?;
        deployment.store().sync().await?;
        Ok(made == Made::Ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WriterId;
    use hardstorage_storage::MemoryStore;
    use std::sync::Arc;

    #[tokio::test]
    async fn recorded_once_and_known_even_when_broken() {
        let memory = Arc::new(MemoryStore::new().with_page(2));
        let deployment = Deployment::for_tests(memory.clone(), "db1");
        let pack = |sequence| PackId {
            writer: WriterId::new([3; 16]),
            sequence,
        };
        let id: BackupId = "db1.full.20260625T083040Z.68ac".parse().unwrap();
        for (sequence, frame) in [(1, 0), (1, 7), (2, u32::MAX)] {
            assert!(
                Damage::record(&deployment, pack(sequence), frame, "hash", Some(&id))
                    .await
                    .unwrap()
            );
        }
        assert!(!Damage::record(&deployment, pack(1), 7, "again", None).await.unwrap());
        let key = layout::damage(deployment.name(), &pack(1).writer, 1, 0);
        memory.corrupt(&key, |bytes| bytes[50] ^= 1);
        let damage = Damage::load(&deployment).await.unwrap();
        assert_eq!(damage.len(), 3);
        assert!(damage.contains(pack(1), 0) && damage.contains(pack(2), u32::MAX) && !damage.contains(pack(2), 0));
        assert!(damage.touches(pack(1)) && !damage.touches(pack(3)));
        let broken: Vec<_> = damage
            .iter()
            .filter(|(.., record)| record.is_err())
            .map(|(p, f, _)| (p, f))
            .collect();
        assert_eq!(broken, [(pack(1), 0)]);
    }
}
