//! The facts in a record of a journal; `journal.rs` says how they lie.

use hardstorage_report::{Lsn, Result};

use super::facts::{CommitAt, RecordFacts, RestorePoint, ServerTime};
use crate::pack::Fields;

/// Puts them behind what `out` holds.
pub(super) fn encode_facts(facts: &RecordFacts, out: &mut Vec<u8>) {
    let commits = [facts.first_commit, facts.last_commit, facts.latest_commit];
    let mut flags = 0u8;
    for (bit, commit) in commits.iter().enumerate() {
        flags |= u8::from(commit.is_some()) << bit;
    }
    // What is committed at a time was there at that time, whatever the caller knew of the clock.
    let complete = facts.complete_up_to.max(facts.latest_commit.map(|commit| commit.time));
    flags |= u8::from(complete.is_some()) << 3 | u8::from(facts.records_end.is_some()) << 4;
    out.extend_from_slice(&[flags, 0, 0, 0]);
    out.extend_from_slice(&(facts.restore_points.len() as u32).to_le_bytes());
    for commit in commits.into_iter().flatten() {
        out.extend_from_slice(&commit.lsn.0.to_le_bytes());
        out.extend_from_slice(&commit.time.0.to_le_bytes());
    }
    if let Some(time) = complete {
        out.extend_from_slice(&time.0.to_le_bytes());
    }
    if let Some(end) = facts.records_end {
        out.extend_from_slice(&end.0.to_le_bytes());
    }
    for point in &facts.restore_points {
        point.encode(out);
    }
}

/// The facts, and what lies behind them.
pub(super) fn decode_facts(bytes: &[u8]) -> Result<(RecordFacts, &[u8])> {
    let mut fields = Fields::new("record of a journal", bytes);
    let flags = fields.u8()?;
    fields.zeros(3)?;
    if flags & !0x1f != 0 {
        return Err(fields.wrong("unknown flags"));
    }
    let points = fields.count(RestorePoint::SHORTEST)?;
    let has = |bit: u32| flags >> bit & 1 == 1;
    let mut commit = |bit| -> Result<Option<CommitAt>> {
        if !has(bit) {
            return Ok(None);
        }
        let (lsn, time) = (Lsn(fields.u64()?), ServerTime(fields.i64()?));
        Ok(Some(CommitAt { lsn, time }))
    };
    let mut facts = RecordFacts {
        first_commit: commit(0)?,
        last_commit: commit(1)?,
        latest_commit: commit(2)?,
        ..RecordFacts::default()
    };
    if has(3) {
        facts.complete_up_to = Some(ServerTime(fields.i64()?));
    }
    if has(4) {
        facts.records_end = Some(Lsn(fields.u64()?));
    }
    for _ in 0..points {
        facts.restore_points.push(RestorePoint::decode(&mut fields)?);
    }
    let left = fields.left();
    Ok((facts, bytes.get(bytes.len() - left..).unwrap_or_default()))
}
