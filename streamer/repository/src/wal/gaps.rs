//! Gap records: WAL that is known to be lost, with the evidence. They explain a hole; that there is one is always
//! computed from what is stored. Where a gap begins in the middle of a segment, its record is also the proof that the
//! tails before it will never go on: recovery may end there.

use std::collections::BTreeSet;

use hardstorage_report::{DeploymentName, Error, Lsn, Result, Timeline, code};
use hardstorage_storage::{Created, Key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::WalArchive;
use super::segments::Stored;
use crate::listing::Objects;
use crate::{EnvelopeKind, Lineage, layout, open_envelope, seal_envelope};

/// WAL that is known to be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The cluster's life.
    pub lineage: Lineage,
    /// The timeline.
    pub timeline: Timeline,
    /// The first lost byte.
    pub from: Lsn,
    /// The first byte behind the gap.
    pub to: Lsn,
    /// When it was noticed.
    pub noticed_at: Timestamp,
    /// What happened, in one line.
    pub reason: String,
    /// The facts: slot, server's answer, positions.
    pub evidence: serde_json::Value,
}

impl WalArchive {
    /// Records a gap, once: the first record of a range stays.
    pub async fn put_gap(
        &self,
        timeline: Timeline,
        (from, to): (Lsn, Lsn),
        reason: &str,
        evidence: serde_json::Value,
    ) -> Result<Stored> {
        if from >= to {
            return Err(Error::new(
                code::usage::INVALID,
                format!("a gap from {from} to {to} is none"),
            ));
        }
        let record = GapRecord {
            deployment: self.deployment().name().clone(),
            lineage: self.lineage(),
            timeline,
            from,
            to,
            noticed_at: self.deployment().surroundings().now(),
            reason: reason.to_owned(),
            evidence,
        };
        let payload = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::new(code::usage::INVALID, "the evidence of a gap is no JSON").source(error))?;
        let store = self.deployment().store();
        let mac = self.deployment().key().mac(EnvelopeKind::Gap);
        let key = layout::gap(self.deployment().name(), self.lineage(), timeline, from, to);
        let created = store
            .put_new(&key, seal_envelope(EnvelopeKind::Gap, &mac, &payload))
            .await?;
        store.sync().await?;
        Ok(match created {
            Created::Created => Stored::Stored,
            Created::Exists => Stored::AlreadyThere,
        })
    }

    /// Every recorded gap, by timeline and position.
    pub async fn gaps(&self) -> Result<Vec<GapRecord>> {
        let folder = layout::gaps_folder(self.deployment().name(), self.lineage());
        let mut gaps = Vec::new();
        for object in Objects::under(self.deployment().store(), folder).all().await? {
            if let Some(record) = self.gap(&object.key).await? {
                gaps.push(record);
            }
        }
        Ok(gaps)
    }

    /// The first lost byte of every gap of a timeline.
    pub(super) async fn lost_from(&self, timeline: Timeline) -> Result<BTreeSet<Lsn>> {
        let gaps = self.gaps().await?.into_iter();
        Ok(gaps
            .filter(|gap| gap.timeline == timeline)
            .map(|gap| gap.from)
            .collect())
    }

    async fn gap(&self, key: &Key) -> Result<Option<GapRecord>> {
        let Some(stored) = self.deployment().store().get(key).await? else {
            return Ok(None);
        };
        let mac = self.deployment().key().mac(EnvelopeKind::Gap);
        let payload = open_envelope(EnvelopeKind::Gap, &mac, &stored, key.as_str())?;
        let wrong = |what: &str| Error::new(code::repository::OBJECT_CORRUPT, format!("object {key}: {what}"));
        let record: GapRecord =
            serde_json::from_slice(&payload).map_err(|error| wrong("it is no gap record").source(error))?;
        let named = layout::gap(
            &record.deployment,
            record.lineage,
            record.timeline,
            record.from,
            record.to,
        );
        if named == *key {
            Ok(Some(record))
        } else {
            Err(wrong("it describes another gap than its name says"))
        }
    }
}
