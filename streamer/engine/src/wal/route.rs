//! From where to stream: the way from what the archive has to what the server is on.
//!
//! Pure. A server on timeline 3 whose archive ends on timeline 1 is asked for timeline 1 up to its switch point, then
//! for 2, then for 3: asked for the old position on its *current* timeline it answers that the WAL was removed although
//! it has it all. Each leg begins at a segment's start, and the one after a switch begins at the segment that holds the
//! switch point, so that this segment comes to lie on both timelines: recovery reads it from the newer.

use hardstorage_report::{Error, Lsn, Result, SegmentSize, Timeline, code};
use hardstorage_repository::wal::ArchiveEnd;
use serde::Serialize;

/// A timeline that the server descends from, and where it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    /// The timeline.
    pub timeline: Timeline,
    /// Where the next one branched off.
    pub switch: Lsn,
}

/// One stretch to stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Of this timeline.
    pub timeline: Timeline,
    /// From here: the start of a segment.
    pub start: Lsn,
    /// Up to the switch point; the current timeline has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Lsn>,
}

/// How the start was found, in the words of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResumeStrategy {
    /// The archive has the current timeline: go on there.
    ResumeFromRepo,
    /// The archive ends on an ancestor.
    ResumeAcrossTimelines,
    /// The archive has nothing before it: from the slot's restart position.
    FreshSlotRestartLsn,
    /// The archive is empty and there is no slot: from where the server is.
    FreshCurrent,
}

/// The way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Stretches, in order; at least one, the last without an end.
    pub legs: Vec<Leg>,
    /// How it was found.
    pub strategy: ResumeStrategy,
    /// The end of what the archive has on this line of descent.
    pub frontier: Option<Lsn>,
}

/// What a route is made from.
#[derive(Debug, Clone)]
pub struct RouteFacts<'a> {
    /// The server's timeline.
    pub current: Timeline,
    /// Its ancestors, oldest first.
    pub ancestors: &'a [Ancestor],
    /// The first byte that the archive lacks on this line of descent, and the timeline of what lies before it; none
    /// when it has nothing that a stream could go on from.
    pub frontier: Option<ArchiveEnd>,
    /// The newest timeline that the archive has WAL of.
    pub newest_archived: Option<Timeline>,
    /// The slot's restart position, when there is a slot that has one.
    pub slot_restart: Option<Lsn>,
    /// How far the server has flushed.
    pub server_flush: Lsn,
    /// Segment size.
    pub size: SegmentSize,
}

/// Finds the way.
pub fn plan_route(facts: &RouteFacts<'_>) -> Result<Route> {
    refuse_dead_branch(facts.newest_archived, facts.current)?;
    let (from, strategy) = match (facts.frontier, facts.slot_restart) {
        (Some(end), _) if end.timeline == facts.current => (end.at, ResumeStrategy::ResumeFromRepo),
        (Some(end), _) => (end.at, ResumeStrategy::ResumeAcrossTimelines),
        (None, Some(restart)) => (restart, ResumeStrategy::FreshSlotRestartLsn),
        (None, None) => (facts.server_flush, ResumeStrategy::FreshCurrent),
    };
    Ok(Route {
        legs: legs_from(facts, from),
        strategy,
        frontier: facts.frontier.map(|end| end.at),
    })
}

/// Every ancestor that was left behind the position, up to its switch point, then the current timeline. A fresh stream
/// too may begin on an ancestor: a slot on a standby that was promoted keeps WAL from before the switch.
fn legs_from(facts: &RouteFacts<'_>, from: Lsn) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut start = from.segment_start(facts.size);
    for ancestor in facts.ancestors.iter().filter(|ancestor| ancestor.switch > from) {
        legs.push(Leg {
            timeline: ancestor.timeline,
            start,
            end: Some(ancestor.switch),
        });
        start = ancestor.switch.segment_start(facts.size);
    }
    legs.push(Leg {
        timeline: facts.current,
        start,
        end: None,
    });
    legs
}

/// An archive that knows a timeline which the server neither is on nor descends from, and which is younger, has seen a
/// promotion that this server has not: it is a demoted or stale node.
pub(super) fn refuse_dead_branch(newest_archived: Option<Timeline>, current: Timeline) -> Result<()> {
    match newest_archived {
        Some(newest) if newest > current => Err(Error::new(
            code::repository::SPLIT_BRAIN,
            format!("the server is on timeline {current}, the archive has timeline {newest} already"),
        )
        .hint("this server has missed a promotion: connect to the current primary")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB16: u64 = 16 << 20;

    fn facts(current: u32, ancestors: &[Ancestor], frontier: Option<(u32, u64)>, slot: Option<Lsn>) -> RouteFacts<'_> {
        let frontier = frontier.map(|(timeline, at)| ArchiveEnd {
            at: Lsn(at),
            timeline: Timeline(timeline),
        });
        RouteFacts {
            current: Timeline(current),
            ancestors,
            frontier,
            newest_archived: frontier.map(|end| end.timeline),
            slot_restart: slot,
            server_flush: Lsn(20 * MIB16 + 5),
            size: SegmentSize::DEFAULT,
        }
    }

    fn ancestor(timeline: u32, switch: u64) -> Ancestor {
        Ancestor {
            timeline: Timeline(timeline),
            switch: Lsn(switch),
        }
    }

    fn legs(route: &Route) -> Vec<(u32, u64, Option<u64>)> {
        route
            .legs
            .iter()
            .map(|leg| (leg.timeline.0, leg.start.0, leg.end.map(|end| end.0)))
            .collect()
    }

    #[test]
    fn the_same_timeline_goes_on_at_the_segment_of_its_end() {
        let route = plan_route(&facts(1, &[], Some((1, 7 * MIB16 + 99)), Some(Lsn(MIB16)))).unwrap();
        assert_eq!(legs(&route), [(1, 7 * MIB16, None)]);
        assert_eq!(route.strategy, ResumeStrategy::ResumeFromRepo);
    }

    #[test]
    fn an_archive_that_is_behind_the_switch_asks_the_old_timeline_first() {
        let ancestors = [ancestor(1, 8 * MIB16 + 100)];
        let route = plan_route(&facts(2, &ancestors, Some((1, 5 * MIB16)), None)).unwrap();
        assert_eq!(
            legs(&route),
            [(1, 5 * MIB16, Some(8 * MIB16 + 100)), (2, 8 * MIB16, None)]
        );
    }

    #[test]
    fn an_archive_past_the_switch_takes_the_switch_segment_again_on_the_new_timeline() {
        let ancestors = [ancestor(1, 8 * MIB16 + 100)];
        // What lies behind the switch on the old timeline counts for nothing: the frontier is the switch.
        let route = plan_route(&facts(2, &ancestors, Some((1, 8 * MIB16 + 100)), None)).unwrap();
        assert_eq!(legs(&route), [(2, 8 * MIB16, None)]);
        assert_eq!(route.strategy, ResumeStrategy::ResumeAcrossTimelines);
        assert_eq!(route.frontier, Some(Lsn(8 * MIB16 + 100)));
    }

    #[test]
    fn several_promotions_while_away() {
        let ancestors = [
            ancestor(9, 8 * MIB16),
            ancestor(10, 9 * MIB16 + 1),
            ancestor(11, 9 * MIB16 + 500),
        ];
        let route = plan_route(&facts(12, &ancestors, Some((9, 6 * MIB16)), None)).unwrap();
        assert_eq!(
            legs(&route),
            [
                (9, 6 * MIB16, Some(8 * MIB16)),
                (10, 8 * MIB16, Some(9 * MIB16 + 1)),
                (11, 9 * MIB16, Some(9 * MIB16 + 500)),
                (12, 9 * MIB16, None)
            ]
        );
    }

    #[test]
    fn fresh_begins_at_the_slot_aligned_down() {
        let route = plan_route(&facts(1, &[], None, Some(Lsn(3 * MIB16 + 77)))).unwrap();
        assert_eq!(legs(&route), [(1, 3 * MIB16, None)]);
        let ancestors = [ancestor(1, 8 * MIB16 + 100)];
        let slot_on_ancestor = plan_route(&facts(2, &ancestors, None, Some(Lsn(7 * MIB16 + 77)))).unwrap();
        assert_eq!(
            legs(&slot_on_ancestor),
            [(1, 7 * MIB16, Some(8 * MIB16 + 100)), (2, 8 * MIB16, None)]
        );
        let no_slot = plan_route(&facts(2, &ancestors, None, None)).unwrap();
        assert_eq!(legs(&no_slot), [(2, 20 * MIB16, None)]);
        assert_eq!(no_slot.strategy, ResumeStrategy::FreshCurrent);
    }

    #[test]
    fn a_stale_node_is_refused() {
        let stale = RouteFacts {
            newest_archived: Some(Timeline(2)),
            ..facts(1, &[], Some((1, 5 * MIB16)), None)
        };
        let error = plan_route(&stale).unwrap_err();
        assert!(error.is(code::repository::SPLIT_BRAIN));
    }

    #[test]
    fn a_switch_exactly_at_a_boundary_and_at_the_frontier() {
        let ancestors = [ancestor(1, 8 * MIB16)];
        let route = plan_route(&facts(2, &ancestors, Some((1, 8 * MIB16)), None)).unwrap();
        assert_eq!(legs(&route), [(2, 8 * MIB16, None)]);
    }
}
