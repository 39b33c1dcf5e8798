//! Writes one journal: a record for what came, durable before the next one begins.
//!
//! After a failure nothing more is written: what a record holds may be on the disk, and its number must never seal other
//! bytes. Whoever goes on begins another journal.

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, code};
use hardstorage_storage::{Growing, Key};

use super::facts::RecordFacts;
use super::format::{FRAME_LEN, Header, WalKind};
use super::journal::{BLOCK, Head, LEAD, RecordEncoder};
use super::metadata::WalMetadata;
use super::seal::ObjectSeal;
use super::{Place, WalArchive};

/// A journal that grows.
#[derive(Debug)]
pub(super) struct JournalWriter {
    key: Key,
    encoder: RecordEncoder,
    /// `None` after a failure, and while a record is written.
    object: Option<Box<dyn Growing>>,
    from: Lsn,
    end: Lsn,
}

/// Bytes in pieces, and what their records say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) parts: &'a [Bytes],
    pub(super) facts: &'a RecordFacts,
}

/// What one record is to hold.
struct Record<'a> {
    parts: Vec<&'a [u8]>,
    /// Of all parts.
    length: usize,
    facts: RecordFacts,
}

impl JournalWriter {
    /// Makes a journal that begins with these bytes; `None` when the store has nothing that grows.
    pub(super) async fn begin(
        archive: &WalArchive,
        key: Key,
        place: Place,
        batch: Batch<'_>,
    ) -> Result<Option<JournalWriter>> {
        let deployment = archive.deployment();
        let header = Header {
            kind: WalKind::Journal,
            sealed: deployment.key().seals(),
            key_id: *deployment.key().id(),
            salt: deployment.surroundings().random()?,
            segment_size: archive.segment_size(),
        };
        let seal = ObjectSeal::new(deployment.key(), &header)?;
        let metadata = WalMetadata {
            lineage: archive.lineage(),
            timeline: place.timeline,
            start: place.start,
            segment_size: archive.segment_size(),
            length: 0,
            hash: [0; 32],
            facts: RecordFacts::default(),
            restore_points: 0,
        };
        let mut out = Head::encode(&header, &seal, &metadata);
        let mut records = batch.records(place.start);
        let mut encoder = RecordEncoder::new(&header, seal, deployment.config().wal_level);
        let mut end = place.start;
        if let Some(record) = records.next() {
            encoder.encode(&record.parts, &record.facts, &mut out)?;
            end = end.add(record.length as u64);
        }
        let Some(object) = deployment.store().grow_new(&key, out.into()).await? else {
            return Ok(None);
        };
        let mut journal = JournalWriter {
            key,
            encoder,
            object: Some(object),
            from: place.start,
            end,
        };
        for record in records {
            journal.write(record).await?;
        }
        Ok(Some(journal))
    }

    /// The first byte.
    pub(super) fn from(&self) -> Lsn {
        self.from
    }

    /// The first byte behind what is durable.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// Makes the next bytes durable.
    pub(super) async fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        for record in batch.records(self.end) {
            self.write(record).await?;
        }
        Ok(())
    }

    async fn write(&mut self, record: Record<'_>) -> Result<()> {
        let broken = || {
            let message = format!("object {} was given up after an earlier failure", self.key);
            Error::new(code::storage::IO, message)
        };
        let mut object = self.object.take().ok_or_else(broken)?;
        let mut out = Vec::with_capacity(LEAD + record.length + 2 * BLOCK);
        out.resize(LEAD, 0);
        self.encoder.encode(&record.parts, &record.facts, &mut out)?;
        object.append(Bytes::from(out).slice(LEAD..)).await?;
        self.object = Some(object);
        self.end = self.end.add(record.length as u64);
        Ok(())
    }
}

impl<'a> Batch<'a> {
    /// Cut into what one record holds. What is known of all goes with the last: it is not known before all are durable.
    /// Restore points go with the bytes that they lie in or before, because no record has room for too many.
    fn records(self, from: Lsn) -> impl Iterator<Item = Record<'a>> {
        let mut facts = self.facts.clone();
        let mut parts = self.parts.iter().map(AsRef::as_ref);
        let mut rest: &[u8] = &[];
        let mut left: usize = self.parts.iter().map(Bytes::len).sum();
        let mut at = from;
        std::iter::from_fn(move || {
            let mut record = Record {
                parts: Vec::new(),
                length: left.min(FRAME_LEN),
                facts: RecordFacts::default(),
            };
            if record.length == 0 {
                return None;
            }
            let mut missing = record.length;
            while missing > 0 {
                if rest.is_empty() {
                    rest = parts.next()?;
                }
                let (here, after) = rest.split_at(rest.len().min(missing));
                record.parts.push(here);
                missing -= here.len();
                rest = after;
            }
            left -= record.length;
            at = at.add(record.length as u64);
            if left == 0 {
                record.facts = std::mem::take(&mut facts);
            } else {
                let here = facts.restore_points.partition_point(|point| point.lsn < at);
                let behind = facts.restore_points.split_off(here);
                record.facts.restore_points = std::mem::replace(&mut facts.restore_points, behind);
            }
            Some(record)
        })
    }
}
