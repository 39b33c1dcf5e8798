//! The metadata of a WAL object, at a fixed place and of a fixed size. Its bytes are described in `format.rs`.

use hardstorage_codec::Digest256;
use hardstorage_report::{Error, Lsn, Result, SegmentSize, SystemId, Timeline};

use super::facts::{CommitAt, RecordFacts, ServerTime};
use super::format::METADATA_LEN;
use crate::Lineage;
use crate::pack::Fields;

/// What a WAL object is, without reading its WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalMetadata {
    /// The cluster's life that it belongs to.
    pub lineage: Lineage,
    /// The timeline.
    pub timeline: Timeline,
    /// The first byte.
    pub start: Lsn,
    /// Size of a segment.
    pub segment_size: SegmentSize,
    /// Number of raw bytes.
    pub length: u64,
    /// Keyed hash of the raw bytes.
    pub hash: Digest256,
    /// What its records say, without the restore points themselves: they are in the directory.
    pub facts: RecordFacts,
    /// How many restore points the directory holds.
    pub restore_points: u32,
}

impl WalMetadata {
    /// The first byte behind it.
    pub fn end(&self) -> Lsn {
        self.start.add(self.length)
    }

    pub(super) fn encode(&self) -> [u8; METADATA_LEN] {
        let mut out = Vec::with_capacity(METADATA_LEN);
        let facts = &self.facts;
        let commits = [facts.first_commit, facts.last_commit, facts.latest_commit];
        let mut flags = 0u16;
        for (bit, commit) in commits.iter().enumerate() {
            flags |= u16::from(commit.is_some()) << bit;
        }
        flags |= u16::from(facts.complete_up_to.is_some()) << 3 | u16::from(facts.records_end.is_some()) << 4;
        out.extend_from_slice(&self.lineage.system_id.0.to_le_bytes());
        out.extend_from_slice(&self.timeline.0.to_le_bytes());
        out.extend_from_slice(&self.lineage.incarnation.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for number in [self.start.0, self.segment_size.bytes(), self.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.hash);
        for commit in commits {
            out.extend_from_slice(&commit.map_or(0, |commit| commit.lsn.0).to_le_bytes());
            out.extend_from_slice(&commit.map_or(0, |commit| commit.time.0).to_le_bytes());
        }
        out.extend_from_slice(&facts.complete_up_to.map_or(0, |time| time.0).to_le_bytes());
        out.extend_from_slice(&facts.records_end.map_or(0, |lsn| lsn.0).to_le_bytes());
        out.extend_from_slice(&self.restore_points.to_le_bytes());
        let mut block = [0; METADATA_LEN];
        block[..out.len()].copy_from_slice(&out);
        block
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<WalMetadata> {
        let mut fields = Fields::new("metadata of a WAL object", bytes);
        let system_id = SystemId(fields.u64()?);
        let timeline = Timeline(fields.u32()?);
        let incarnation = fields.u16()?;
        let flags = fields.u16()?;
        let start = Lsn(fields.u64()?);
        let segment_size = SegmentSize::new(fields.u64()?).ok_or_else(|| fields.wrong("another segment size"))?;
        let length = fields.u64()?;
        let hash = fields.array()?;
        if flags & !0x1f != 0 || length > segment_size.bytes() || start.0.checked_add(length).is_none() {
            return Err(fields.wrong("flags or lengths are out of range"));
        }
        let has = |bit: u32| flags >> bit & 1 == 1;
        let mut commit = |bit| {
            let commit = CommitAt {
                lsn: Lsn(fields.u64()?),
                time: ServerTime(fields.i64()?),
            };
            Ok::<_, Error>(has(bit).then_some(commit))
        };
        let (first_commit, last_commit, latest_commit) = (commit(0)?, commit(1)?, commit(2)?);
        let complete_up_to = ServerTime(fields.i64()?);
        let records_end = Lsn(fields.u64()?);
        let restore_points = fields.u32()?;
        fields.zeros(116)?;
        fields.end()?;
        Ok(WalMetadata {
            lineage: Lineage { system_id, incarnation },
            timeline,
            start,
            segment_size,
            length,
            hash,
            facts: RecordFacts {
                first_commit,
                last_commit,
                latest_commit,
                restore_points: Vec::new(),
                complete_up_to: has(3).then_some(complete_up_to),
                records_end: has(4).then_some(records_end),
            },
            restore_points,
        })
    }
}
