//! Gap records: WAL that is known to be lost, with the evidence. They explain a hole; that there is one is always
//! computed from what is stored. Where a gap begins in the middle of a segment, its record is also the proof that the
//! tails before it will never go on: recovery may end there. A gap that was filled later is none any more; consumers ask
//! [`WalArchive::open_gaps`].
//!
//! A record that is damaged keeps nobody from the others. What it said is unknown, but for its name: whoever looks for
//! losses assumes a hole there; whoever would skip something, or end a recovery, because of it does not.

use std::collections::BTreeSet;

use hardstorage_report::{DeploymentName, Error, Kind, Lsn, Result, Timeline, code};
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

    /// Whether a backup recorded this because nobody streams: it found the end of another backup's WAL, and no slot,
    /// not even one that has lost what it kept.
    pub fn is_between_backups(&self) -> bool {
        let of = |fact| self.evidence.get(fact).is_some_and(|value| !value.is_null());
        of("backup_start_lsn")
            && !of("slot_restart_lsn")
            && !self.evidence.get(KEEPS_NOTHING).is_some_and(|lost| lost == true)
    }

    /// Whether this is no loss: the WAL was archived, and retention let it go.
    pub fn is_expired(&self) -> bool {
        self.evidence.get(EXPIRED).is_some()
    }
}

/// What the evidence of a backup holds that found the stream's slot, and that it kept nothing.
const KEEPS_NOTHING: &str = "slot_keeps_nothing";
/// What the evidence of a range holds that retention let go.
pub(super) const EXPIRED: &str = "expired";

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedGap {
    /// The object.
    pub object: String,
    #[serde(skip)]
    pub(super) key: Key,
    /// The timeline and the range in its name; none when the name is no record's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<(Timeline, LsnRange)>,
    /// The dotted code of what is wrong with it.
    pub code: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What can be done.
    pub hint: &'static str,
}

impl DamagedGap {
    const HINT: &'static str = "a hole is assumed where its name says: take a new backup, look up what it recorded with `pg_hardstorage audit list`, then delete this object";
}

impl std::fmt::Display for DamagedGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.hint)
    }
}

/// All that is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// By timeline and position.
    pub records: Vec<GapRecord>,
    /// What cannot be read.
    pub damaged: Vec<DamagedGap>,
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

    /// Every recorded gap.
    pub async fn gaps(&self) -> Result<Gaps> {
        let folder = layout::gaps_folder(self.deployment().name(), self.lineage());
        let mut gaps = Gaps::default();
        for object in Objects::under(self.deployment().store(), folder.clone()).all().await? {
            match self.gap(&object.key).await {
                Ok(Some(record)) => gaps.records.push(record),
                Ok(None) => {}
                Err(error) if error.kind() == Kind::Verify => gaps.damaged.push(DamagedGap {
                    named: layout::named_gap(&folder, &object.key).map(|(timeline, from, to)| {
                        let range = LsnRange { from, to };
                        (timeline, range)
                    }),
                    object: object.key.to_string(),
                    key: object.key,
                    code: error.code().as_str(),
                    message: error.to_string(),
                    hint: DamagedGap::HINT,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(gaps)
    }

    /// The recorded gaps, without what retention let go, that are still holes on the way to the coverage's timeline. WAL can
    /// come after its gap was recorded: from another server, or from a stream that nobody knew of. So a record alone is no
    /// gap. A damaged one is a gap where its name says.
    pub async fn open_gaps(&self, coverage: &Coverage) -> Result<Vec<LsnRange>> {
        let ancestry = self.ancestry().await?;
        let gaps = self.gaps().await?;
        let recorded = gaps.records.iter().filter(|gap| !gap.is_expired());
        let recorded = recorded.map(|gap| (gap.timeline, gap.range()));
        let damaged = gaps.damaged.iter().filter_map(|gap| gap.named);
        let mut open = Vec::new();
        for (timeline, range) in recorded.chain(damaged) {
            if coverage.lacks(range) && ancestry.passes(coverage.timeline, timeline, range.from)? {
                open.push(range);
            }
        }
        Ok(open)
    }

    /// The first lost byte of every gap of a timeline. A record that is damaged proves nothing, so recovery will not end
    /// at its hole.
    pub(super) async fn lost_from(&self, timeline: Timeline) -> Result<BTreeSet<Lsn>> {
        let gaps = self.readable_gaps().await?;
        let lost = gaps
            .iter()
            .filter(|gap| gap.timeline == timeline && !gap.is_expired())
            .map(|gap| gap.from);
        Ok(lost.collect())
    }

    /// The records, for those to whom a damaged one means nothing.
    pub(super) async fn readable_gaps(&self) -> Result<Vec<GapRecord>> {
        let gaps = self.gaps().await?;
        for damaged in &gaps.damaged {
            tracing::warn!(object = %damaged.object, message = damaged.message, "a gap record is damaged and counts for nothing");
        }
        Ok(gaps.records)
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
