//! Gap records: WAL that is known to be lost, with the evidence. They explain a hole; that there is one is always
//! computed from what is stored. Where a gap begins in the middle of a segment, its record is also the proof that the
//! tails before it will never go on: recovery may end there. A gap that was filled later is none any more; consumers ask
//! [`WalArchive::open_gaps`].

use std::collections::BTreeSet;

use hardstorage_report::{DeploymentName, Error, Lsn, Result, Timeline, code};
use hardstorage_storage::{Created, Key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::WalArchive;
use super::coverage::{Coverage, LsnRange};
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

impl GapRecord {
    /// What is lost.
    pub fn range(&self) -> LsnRange {
        LsnRange {
            from: self.from,
            to: self.to,
        }
    }

    /// Whether a server was asked for this WAL and said that it is gone. A gap that was only concluded may still be
    /// filled by a server that has it.
    pub fn was_asked_for(&self) -> bool {
        self.evidence.get("answer").is_some()
    }
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
        if created == Created::Created {
            return Ok(Stored::Stored);
        }
        store.confirm(&[key]).await?;
        Ok(Stored::AlreadyThere)
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

    /// The recorded gaps that are still holes on the way to the coverage's timeline. WAL can come after its gap was
    /// recorded: from another server, or from a stream that nobody knew of. So a record alone is no gap.
    pub async fn open_gaps(&self, coverage: &Coverage) -> Result<Vec<GapRecord>> {
        let ancestry = self.ancestry().await?;
        let mut open = Vec::new();
        for gap in self.gaps().await? {
            if coverage.lacks(gap.range()) && ancestry.passes(coverage.timeline, gap.timeline, gap.from)? {
                open.push(gap);
            }
        }
        Ok(open)
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
