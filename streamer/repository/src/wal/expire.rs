//! Expiry: WAL that no backup needs any more, found by positions, never by the names' order alone.
//!
//! Positions only rise along any history, so recovery from a backup never reads a segment that ends before the backup's
//! start, on whatever timeline. What lies below the lowest start therefore goes, but on no timeline that is newer than
//! the one of that start: a server that was set back to an earlier moment goes on with low positions and a new timeline.
//! Ranges that older backups need for themselves are kept out.
//!
//! The range is written down before the first segment of it goes: what a stream, an audit or a restore finds missing in
//! it is no loss, and no server is asked for it. A record that is damaged is taken into that range when its name lies in
//! it; before that it stays, and is told.

use std::collections::BTreeMap;

use hardstorage_report::{Lsn, Result, SegmentName, Timeline, code};
use hardstorage_storage::Key;
use serde::Serialize;
use serde_json::json;

use super::WalArchive;
use super::coverage::LsnRange;
use super::gaps::{EXPIRED, GapRecord, Gaps};
use crate::listing::{Objects, remove_all};
use crate::{Amount, layout};

/// What stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalKeep {
    /// Everything that ends behind this position.
    pub from: Lsn,
    /// Everything of timelines above this one.
    pub timeline: Timeline,
    /// Whatever touches one of these.
    pub ranges: Vec<LsnRange>,
}

impl WalKeep {
    fn lets_go(&self, segment: SegmentName, range: LsnRange) -> bool {
        let needed = self
            .ranges
            .iter()
            .any(|kept| kept.from < range.to && range.from < kept.to);
        segment.timeline <= self.timeline && range.to <= self.from && !needed
    }
}

/// What expired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// Finished segments.
    pub segments: Amount,
    /// Tails: of expired segments, and of finished ones that a streamer left behind.
    pub tails: Amount,
    /// `.partial` and `.backup` files, records of gaps.
    pub small: u64,
    /// What differs from the finished segment, and was left alone.
    pub problems: Vec<String>,
}

impl WalArchive {
    /// Lets go of what is not kept, and of tails whose segment is finished. Tells only, unless `apply`.
    pub(crate) async fn expire(&self, keep: &WalKeep, apply: bool) -> Result<Expired> {
        let mut expired = Expired::default();
        let gaps = self.gaps().await?;
        expired.problems.extend(gaps.damaged.iter().map(ToString::to_string));
        for timeline in self.timelines().await? {
            let (segments, finished) = self.segments_to_expire(timeline, keep, &mut expired).await?;
            let tails = self.tails_to_expire(timeline, keep, &mut expired).await?;
            let first = segments.keys().chain(tails.keys()).min();
            if let Some(first) = first.filter(|_| apply) {
                self.write_down(timeline, (*first, keep.from), &gaps).await?;
                // Ascending, so that a run that dies leaves the newer part whole.
                let keys = segments.into_values().chain(tails.into_values().flatten());
                self.remove(keys.collect()).await?;
            }
            self.left_behind(timeline, &finished, apply, &mut expired).await?;
        }
        self.small_to_expire(keep, &gaps, apply, &mut expired).await?;
        Ok(expired)
    }

    /// The segments of a timeline that go, by position, and the starts of all that stay.
    async fn segments_to_expire(
        &self,
        timeline: Timeline,
        keep: &WalKeep,
        expired: &mut Expired,
    ) -> Result<(BTreeMap<Lsn, Key>, Vec<Lsn>)> {
        let folder = layout::segments_folder(self.deployment().name(), self.lineage(), timeline);
        let (mut go, mut stay) = (BTreeMap::new(), Vec::new());
        let mut objects = Objects::under(self.deployment().store(), folder);
        while let Some(object) = objects.next().await? {
            let Some(segment) = self.segment_of(&object.key, timeline) else {
                continue;
            };
            let range = self.range_of(segment)?;
            if keep.lets_go(segment, range) {
                expired.segments.add(object.size);
                go.insert(range.from, object.key);
            } else {
                stay.push(range.from);
            }
        }
        Ok((go, stay))
    }

    async fn tails_to_expire(
        &self,
        timeline: Timeline,
        keep: &WalKeep,
        expired: &mut Expired,
    ) -> Result<BTreeMap<Lsn, Vec<Key>>> {
        let mut go = BTreeMap::new();
        for segment in self.segments_with_tails(timeline).await? {
            let range = self.range_of(segment)?;
            if !keep.lets_go(segment, range) {
                continue;
            }
            let tails = self.tail_objects(segment).await?;
            for tail in &tails {
                expired.tails.add(tail.size);
            }
            go.insert(range.from, tails.into_iter().map(|tail| tail.key).collect());
        }
        Ok(go)
    }

    /// Tails of segments that stay and are finished, as a streamer that died leaves them. The newest one is still the
    /// streamer's own matter.
    async fn left_behind(
        &self,
        timeline: Timeline,
        finished: &[Lsn],
        apply: bool,
        expired: &mut Expired,
    ) -> Result<()> {
        let Some(newest) = finished.last() else { return Ok(()) };
        for segment in self.segments_with_tails(timeline).await? {
            let start = self.start_of(segment)?;
            if start >= *newest || finished.binary_search(&start).is_err() {
                continue;
            }
            let tails = self.tail_objects(segment).await?;
            if apply && let Err(error) = self.drop_left_behind(segment).await {
                if !error.is(code::repository::SPLIT_BRAIN) {
                    return Err(error);
                }
                expired.problems.push(error.to_string());
                continue;
            }
            for tail in &tails {
                expired.tails.add(tail.size);
            }
        }
        Ok(())
    }

    /// Writes the range down, together with what earlier runs had written; theirs go.
    async fn write_down(&self, timeline: Timeline, (first, to): (Lsn, Lsn), gaps: &Gaps) -> Result<()> {
        let known = gaps.records.iter().filter(|gap| gap.is_expired());
        let known = known.map(|gap| (self.gap_key(gap), gap.timeline, gap.range()));
        let damaged = gaps
            .damaged
            .iter()
            .filter_map(|gap| gap.named.map(|(timeline, range)| (gap.key.clone(), timeline, range)));
        let earlier: Vec<(Key, LsnRange)> = known
            .chain(damaged)
            .filter(|(_, of, range)| *of == timeline && range.to <= to)
            .map(|(key, _, range)| (key, range))
            .collect();
        let from = earlier.iter().map(|(_, range)| range.from).fold(first, Lsn::min);
        self.put_gap(timeline, (from, to), "expired by retention", json!({EXPIRED: true}))
            .await?;
        let replaced = earlier.into_iter().filter(|(_, range)| *range != LsnRange { from, to });
        self.remove(replaced.map(|(key, _)| key).collect()).await
    }

    async fn small_to_expire(&self, keep: &WalKeep, gaps: &Gaps, apply: bool, expired: &mut Expired) -> Result<()> {
        let mut keys = Vec::new();
        for gap in gaps.records.iter().filter(|gap| !gap.is_expired()) {
            let segment = SegmentName::containing(gap.timeline, gap.from, self.segment_size());
            if keep.lets_go(segment, gap.range()) {
                keys.push(self.gap_key(gap));
            }
        }
        let folder = layout::aux_folder(self.deployment().name(), self.lineage());
        let mut objects = Objects::under(self.deployment().store(), folder);
        while let Some(object) = objects.next().await? {
            let name = object.key.base_name().get(..24).unwrap_or_default();
            let Ok(segment) = name.parse::<SegmentName>() else {
                continue;
            };
            if segment.start(self.segment_size()).is_some() && keep.lets_go(segment, self.range_of(segment)?) {
                keys.push(object.key);
            }
        }
        expired.small += keys.len() as u64;
        if apply {
            self.remove(keys).await?;
        }
        Ok(())
    }

    fn range_of(&self, segment: SegmentName) -> Result<LsnRange> {
        let from = self.start_of(segment)?;
        Ok(LsnRange {
            from,
            to: from.add(self.segment_size().bytes()),
        })
    }

    fn gap_key(&self, gap: &GapRecord) -> Key {
        layout::gap(self.deployment().name(), self.lineage(), gap.timeline, gap.from, gap.to)
    }

    async fn remove(&self, keys: Vec<Key>) -> Result<()> {
        remove_all(self.deployment().store(), keys).await
    }
}
