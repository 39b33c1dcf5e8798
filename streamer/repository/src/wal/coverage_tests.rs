//! Coverage as a pure function of names. Segments of 1 MiB: segment `n` begins at `n << 20`.

use std::collections::BTreeSet;

use super::*;

const MIB: u64 = 1 << 20;

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

fn inventory(segments: &[u64], tails: &[(u64, u64)]) -> Inventory {
    Inventory {
        segments: segments.iter().map(|number| Lsn(number * MIB)).collect(),
        tails: tails
            .iter()
            .map(|(number, bytes)| {
                let from = Lsn(number * MIB);
                let range = LsnRange {
                    from,
                    to: from.add(*bytes),
                };
                (from, (range, None))
            })
            .collect(),
        lost: BTreeSet::new(),
    }
}

fn branch(timeline: u32, begin: u64, end: Option<u64>) -> Branch {
    Branch {
        timeline: Timeline(timeline),
        begin: Lsn(begin),
        end: end.map(Lsn),
    }
}

fn compute(chain: &[Branch], stored: Vec<(u32, Inventory)>) -> Coverage {
    let stored = stored
        .into_iter()
        .map(|(timeline, stored)| (Timeline(timeline), stored))
        .collect();
    Coverage::compute(chain.last().unwrap().timeline, chain, size(), &stored)
}

fn ranges(coverage: &Coverage) -> Vec<(u64, u64)> {
    coverage
        .ranges()
        .iter()
        .map(|range| (range.from.0, range.to.0))
        .collect()
}

#[test]
fn one_timeline_with_a_hole_and_tails_at_its_end() {
    let coverage = compute(&[branch(1, 0, None)], vec![(1, inventory(&[3, 4, 6], &[(7, 1000)]))]);
    assert_eq!(ranges(&coverage), [(3 * MIB, 5 * MIB), (6 * MIB, 7 * MIB + 1000)]);
    assert!(coverage.is_covered(Lsn(3 * MIB + 5), Lsn(5 * MIB)));
    assert!(!coverage.is_covered(Lsn(3 * MIB + 5), Lsn(5 * MIB + 1)));
    assert!(!coverage.is_covered(Lsn(2 * MIB), Lsn(3 * MIB)));
    assert_eq!(coverage.recoverable_until(Lsn(4 * MIB)), Some(Lsn(5 * MIB)));
    assert_eq!(coverage.recoverable_until(Lsn(5 * MIB)), Some(Lsn(5 * MIB)));
    assert_eq!(coverage.recoverable_until(Lsn(5 * MIB + 1)), None);
    assert_eq!(
        coverage.first_hole(Lsn(3 * MIB)),
        Some(LsnRange {
            from: Lsn(5 * MIB),
            to: Lsn(6 * MIB)
        })
    );
    assert_eq!(coverage.first_hole(Lsn(6 * MIB)), None);
    assert_eq!(coverage.pieces_from(Lsn(3 * MIB + 9)).len(), 2);
    assert_eq!(coverage.pieces_from(Lsn(6 * MIB)).len(), 2);
    assert!(coverage.pieces_from(Lsn(5 * MIB)).is_empty());
}

#[test]
fn tails_in_the_middle_count_only_when_they_hold_the_whole_segment() {
    let part = compute(&[branch(1, 0, None)], vec![(1, inventory(&[3, 5], &[(4, MIB - 1)]))]);
    assert_eq!(ranges(&part), [(3 * MIB, 4 * MIB), (5 * MIB, 6 * MIB)]);
    let whole = compute(&[branch(1, 0, None)], vec![(1, inventory(&[3, 5], &[(4, MIB)]))]);
    assert_eq!(ranges(&whole), [(3 * MIB, 6 * MIB)]);
}

#[test]
fn tails_in_the_middle_count_up_to_a_recorded_gap() {
    let mut stored = inventory(&[3, 6], &[(4, 1000)]);
    stored.lost.insert(Lsn(4 * MIB + 1000));
    let chain = [branch(1, 0, None)];
    let coverage = compute(&chain, vec![(1, stored.clone())]);
    assert_eq!(ranges(&coverage), [(3 * MIB, 4 * MIB + 1000), (6 * MIB, 7 * MIB)]);
    let hole = coverage.first_hole(Lsn(3 * MIB)).unwrap();
    assert_eq!((hole.from, hole.to), (Lsn(4 * MIB + 1000), Lsn(6 * MIB)));
    // Tails that go on behind the record of a gap, or end before it, are no end.
    for bytes in [999, 1001] {
        stored.tails = inventory(&[], &[(4, bytes)]).tails;
        let coverage = compute(&chain, vec![(1, stored.clone())]);
        assert_eq!(ranges(&coverage), [(3 * MIB, 4 * MIB), (6 * MIB, 7 * MIB)]);
    }
}

#[test]
fn a_switch_segment_is_needed_on_the_new_timeline() {
    let switch = 5 * MIB + 4000;
    let chain = [branch(1, 0, Some(switch)), branch(10, switch, None)];
    // The old primary archived past the switch; the new timeline's copy of segment 5 is missing.
    let without = compute(
        &chain,
        vec![(1, inventory(&[3, 4, 5, 6], &[])), (10, inventory(&[6], &[]))],
    );
    assert_eq!(ranges(&without), [(3 * MIB, 5 * MIB), (6 * MIB, 7 * MIB)]);
    let with = compute(
        &chain,
        vec![(1, inventory(&[3, 4, 5, 6], &[])), (10, inventory(&[5, 6], &[]))],
    );
    assert_eq!(ranges(&with), [(3 * MIB, 7 * MIB)]);
    assert_eq!(with.pieces[2].segment.to_string(), "0000000A0000000000000005");
    // The old timeline by itself is covered by its own copies.
    let old = compute(&chain[..1], vec![(1, inventory(&[3, 4, 5, 6], &[]))]);
    assert_eq!(ranges(&old), [(3 * MIB, 7 * MIB)]);
}

#[test]
fn just_after_a_promotion_the_old_copy_counts_up_to_the_switch() {
    let switch = 5 * MIB + 4000;
    let chain = [branch(1, 0, Some(switch)), branch(2, switch, None)];
    let finished = compute(
        &chain,
        vec![(1, inventory(&[3, 4, 5, 6], &[])), (2, Inventory::default())],
    );
    assert_eq!(ranges(&finished), [(3 * MIB, switch)]);
    let tails = compute(
        &chain,
        vec![(1, inventory(&[3, 4], &[(5, 3000)])), (2, Inventory::default())],
    );
    assert_eq!(ranges(&tails), [(3 * MIB, 5 * MIB + 3000)]);
}

#[test]
fn two_switches_in_one_segment() {
    let (first, second) = (5 * MIB + 100, 5 * MIB + 200);
    let chain = [
        branch(1, 0, Some(first)),
        branch(2, first, Some(second)),
        branch(3, second, None),
    ];
    // Timeline 2's copy is never read.
    let coverage = compute(
        &chain,
        vec![(1, inventory(&[4], &[])), (3, inventory(&[], &[(5, 300)]))],
    );
    assert_eq!(ranges(&coverage), [(4 * MIB, 5 * MIB + 300)]);
}

#[test]
fn a_switch_at_a_boundary() {
    let chain = [branch(1, 0, Some(5 * MIB)), branch(2, 5 * MIB, None)];
    let coverage = compute(&chain, vec![(1, inventory(&[4], &[])), (2, inventory(&[5], &[]))]);
    assert_eq!(ranges(&coverage), [(4 * MIB, 6 * MIB)]);
    let nothing_new = compute(&chain, vec![(1, inventory(&[4], &[])), (2, Inventory::default())]);
    assert_eq!(ranges(&nothing_new), [(4 * MIB, 5 * MIB)]);
}
