//! Records over page and segment boundaries, cut into any pieces, beginning anywhere; and bytes that are no WAL at all.
//! The same is compared with `pg_waldump` on real servers in `tests/it/records.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use hardstorage_codec::{crc32c, crc32c_append};
use hardstorage_report::{Lsn, SegmentSize};
use hardstorage_repository::wal::ServerTime;
use proptest::prelude::*;

use super::page::{LONG_HEADER, MAGICS, PAGE_LEN, SHORT_HEADER};
use super::{FactsCollector, Found, FoundKind, Scanner};

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// Writes WAL as a server does.
struct Server {
    start: Lsn,
    bytes: Vec<u8>,
    magic: u16,
}

impl Server {
    fn new(start: Lsn, magic: u16) -> Server {
        Server {
            start,
            bytes: Vec::new(),
            magic,
        }
    }

    fn position(&self) -> Lsn {
        self.start.add(self.bytes.len() as u64)
    }

    fn page_header(&mut self, remaining: u32) {
        let at = self.position();
        let long = at.segment_offset(size()) == 0;
        let flags = u16::from(remaining > 0) | u16::from(long) << 1;
        self.bytes.extend_from_slice(&self.magic.to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&7u32.to_le_bytes());
        self.bytes.extend_from_slice(&at.0.to_le_bytes());
        self.bytes.extend_from_slice(&remaining.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        if long {
            self.bytes.extend_from_slice(&42u64.to_le_bytes());
            self.bytes.extend_from_slice(&(size().bytes() as u32).to_le_bytes());
            self.bytes.extend_from_slice(&(PAGE_LEN as u32).to_le_bytes());
        }
    }

    fn align(&mut self) {
        while !self.position().0.is_multiple_of(8) {
            self.bytes.push(0);
        }
    }

    /// Where the record begins and where the next one may.
    fn record(&mut self, rmgr: u8, info: u8, body: &[u8]) -> (Lsn, Lsn) {
        self.align();
        let mut record = Vec::new();
        record.extend_from_slice(&(24 + body.len() as u32).to_le_bytes());
        record.extend_from_slice(&[9; 12]);
        record.extend_from_slice(&[info, rmgr, 0, 0]);
        let crc = crc32c_append(crc32c(body), &record);
        record.extend_from_slice(&crc.to_le_bytes());
        record.extend_from_slice(body);
        if self.position().0.is_multiple_of(PAGE_LEN as u64) {
            self.page_header(0);
        }
        let begin = self.position();
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.position().0.is_multiple_of(PAGE_LEN as u64) {
                self.page_header(rest.len() as u32);
            }
            let room = PAGE_LEN - (self.position().0 % PAGE_LEN as u64) as usize;
            let (here, after) = rest.split_at(rest.len().min(room));
            self.bytes.extend_from_slice(here);
            rest = after;
        }
        let end = Lsn(self.position().0.next_multiple_of(8));
        (begin, end)
    }

    /// A switch: the rest of the segment is zero.
    fn switch(&mut self) -> (Lsn, Lsn) {
        let (begin, _) = self.record(0, 0x40, &[]);
        let end = Lsn(self.position().0.next_multiple_of(size().bytes()));
        self.bytes.resize(self.start.bytes_until(end) as usize, 0);
        (begin, end)
    }
}

/// Main data behind its part header, long or short, with an origin before it.
fn body(data: &[u8], long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if long {
        out.extend_from_slice(&[253, 1, 0, 252, 1, 2, 3, 4, 254]);
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&[255, data.len() as u8]);
    }
    out.extend_from_slice(data);
    out
}

fn commit_data(time: i64, more: usize) -> Vec<u8> {
    let mut data = time.to_le_bytes().to_vec();
    data.resize(8 + more, 5);
    data
}

/// Two segments and a bit more, from `start` on, and a commit that begins in the first and ends in the second.
pub(crate) fn crossing_commit(start: Lsn, time: i64) -> (Vec<u8>, Lsn) {
    let border = start.add(size().bytes());
    let mut server = Server::new(start, MAGICS[3]);
    while server.position().add(3000) < border {
        server.record(10, 0x30, &[1; 1000]);
    }
    let (commit, end) = server.record(1, 0, &body(&commit_data(time, 20_000), true));
    assert!(commit < border && border < end);
    while server.position() < border.add(size().bytes() + 100) {
        server.record(10, 0x30, &[1; 1000]);
    }
    (server.bytes, commit)
}

#[derive(Debug, Clone)]
enum Step {
    Other(usize),
    Commit { time: i64, more: usize, prepared: bool },
    Abort(i64),
    Point(String),
    Checkpoint(bool),
    Switch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..20_000).prop_map(Step::Other),
        4 => (any::<i64>(), 0usize..9000, any::<bool>())
            .prop_map(|(time, more, prepared)| Step::Commit { time, more, prepared }),
        1 => any::<i64>().prop_map(Step::Abort),
        1 => "[a-z]{1,63}".prop_map(Step::Point),
        1 => any::<bool>().prop_map(Step::Checkpoint),
        1 => Just(Step::Switch),
    ]
}

/// A run of records, and what a scanner must find in it.
fn play(steps: &[Step], start: Lsn, magic: u16) -> (Server, Vec<Found>) {
    let mut server = Server::new(start, magic);
    let mut expected = Vec::new();
    for step in steps {
        let ((lsn, end), kind) = match step {
            Step::Other(length) => {
                server.record(10, 0x30, &vec![1; *length]);
                continue;
            }
            Step::Commit { time, more, prepared } => {
                let info = if *prepared { 0x30 | 0x80 } else { 0 };
                let data = commit_data(*time, *more);
                let at = server.record(1, info, &body(&data, data.len() > 255));
                (at, FoundKind::Commit(ServerTime(*time)))
            }
            Step::Abort(time) => {
                let at = server.record(1, 0x20, &body(&commit_data(*time, 0), false));
                (at, FoundKind::Abort(ServerTime(*time)))
            }
            Step::Point(name) => {
                let mut data = 5i64.to_le_bytes().to_vec();
                data.extend_from_slice(name.as_bytes());
                data.resize(72, 0);
                let at = server.record(0, 0x70, &body(&data, false));
                let time = ServerTime(5);
                (
                    at,
                    FoundKind::RestorePoint {
                        name: name.clone(),
                        time,
                    },
                )
            }
            Step::Checkpoint(shutdown) => {
                let mut data = 77u64.to_le_bytes().to_vec();
                data.resize(88, 0);
                let at = server.record(0, if *shutdown { 0 } else { 0x10 }, &body(&data, false));
                (
                    at,
                    FoundKind::Checkpoint {
                        shutdown: *shutdown,
                        redo: Lsn(77),
                    },
                )
            }
            Step::Switch => (server.switch(), FoundKind::Switch),
        };
        expected.push(Found { lsn, end, kind });
    }
    (server, expected)
}

fn scan(start: Lsn, pieces: &[&[u8]]) -> (Vec<Found>, Scanner) {
    let mut scanner = Scanner::new(start, size());
    let mut found = Vec::new();
    for piece in pieces {
        scanner.push(piece, &mut |one| found.push(one));
    }
    (found, scanner)
}

/// Cuts at these places, modulo what is left.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for at in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (here, after) = rest.split_at((at % rest.len()) + 1);
        pieces.push(here);
        rest = after;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everything_is_found_however_the_stream_is_cut(
        steps in proptest::collection::vec(step(), 1..40),
        cuts in proptest::collection::vec(0usize..9000, 1..12),
        version in 0usize..4, segment in 0u64..3,
    ) {
        let start = Lsn(segment << 20);
        let (server, expected) = play(&steps, start, MAGICS[version]);
        let (found, scanner) = scan(start, &[&server.bytes]);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(scanner.refused(), 0);
        prop_assert_eq!(scanner.position(), server.position());

        let (again, cut_scanner) = scan(start, &cut(&server.bytes, &cuts));
        prop_assert_eq!(&again, &found);
        prop_assert_eq!(cut_scanner.records_end(), scanner.records_end());
    }

    // Whoever begins in the middle finds every record that begins on a later page.
    #[test]
    fn a_start_anywhere_loses_only_what_began_before(
        steps in proptest::collection::vec(step(), 1..40), at in any::<prop::sample::Index>(),
    ) {
        let (server, expected) = play(&steps, Lsn(0), MAGICS[0]);
        let at = at.index(server.bytes.len());
        let next_page = Lsn(at.next_multiple_of(PAGE_LEN) as u64);
        let (found, scanner) = scan(Lsn(at as u64), &[&server.bytes[at..]]);
        let later: Vec<Found> = expected.into_iter().filter(|one| one.lsn >= next_page).collect();
        prop_assert_eq!(found, later);
        prop_assert_eq!(scanner.refused(), 0);
    }

    // A changed byte may hide records, but never invents or alters one.
    #[test]
    fn a_changed_byte_never_invents_a_record(
        steps in proptest::collection::vec(step(), 1..20), at in any::<prop::sample::Index>(), bits in 1u8..,
    ) {
        let (mut server, expected) = play(&steps, Lsn(0), MAGICS[3]);
        let at = at.index(server.bytes.len());
        server.bytes[at] ^= bits;
        let (found, _) = scan(Lsn(0), &[&server.bytes]);
        for one in &found {
            prop_assert!(expected.contains(one), "{:?}", one);
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_are_answered_alike(
        words in proptest::collection::vec(any::<u64>(), 0..2500), mask in any::<u64>(),
        cuts in proptest::collection::vec(0usize..9000, 1..6), start in any::<u64>(),
    ) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| (word & mask).to_le_bytes()).collect();
        let (found, whole) = scan(Lsn(start), &[&bytes]);
        let (again, pieces) = scan(Lsn(start), &cut(&bytes, &cuts));
        prop_assert_eq!(found, again);
        prop_assert_eq!(whole.refused(), pieces.refused());
        prop_assert_eq!(whole.records_end(), pieces.records_end());
    }

    // Records of any bytes with a good checksum: the parser of record bodies sees everything.
    #[test]
    fn any_record_is_answered(
        rmgr in 0u8..3, info in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let mut server = Server::new(Lsn(0), MAGICS[1]);
        let (_, end) = server.record(rmgr, info, &body);
        let (_, scanner) = scan(Lsn(0), &[&server.bytes]);
        let switch = rmgr == 0 && info & 0xF0 == 0x40;
        prop_assert_eq!(scanner.records_end(), Some(if switch { Lsn(1 << 20) } else { end }));
    }
}

#[test]
fn the_end_of_a_recycled_segment_is_not_taken_for_records() {
    let mut server = Server::new(Lsn(5 << 20), MAGICS[2]);
    let (_, end) = server.record(1, 0, &body(&commit_data(1, 0), false));
    // What lay in the file before: pages of an older segment.
    let mut old = Server::new(Lsn(2 << 20), MAGICS[2]);
    for time in 0..2000 {
        old.record(1, 0, &body(&commit_data(time, 0), false));
    }
    let mut file = server.bytes.clone();
    file.resize(PAGE_LEN, 0);
    file.extend_from_slice(&old.bytes[PAGE_LEN..]);
    let (found, scanner) = scan(Lsn(5 << 20), &[&file]);
    assert_eq!(found.len(), 1);
    assert_eq!(scanner.records_end(), Some(end));
    assert_eq!(scanner.refused(), 0);
}

#[test]
fn a_record_that_was_overwritten_after_a_crash_is_dropped() {
    let mut server = Server::new(Lsn(0), MAGICS[3]);
    server.record(10, 0, &vec![1; 20_000]);
    // The server came back without the end of that record: the second page begins anew.
    server.bytes.truncate(PAGE_LEN);
    server.page_header(0);
    let flags = 0x0008u16;
    server.bytes[PAGE_LEN + 2..PAGE_LEN + 4].copy_from_slice(&flags.to_le_bytes());
    let (lsn, end) = server.record(1, 0, &body(&commit_data(3, 0), false));
    let (found, scanner) = scan(Lsn(0), &[&server.bytes]);
    let kind = FoundKind::Commit(ServerTime(3));
    assert_eq!(found, [Found { lsn, end, kind }]);
    assert_eq!(scanner.refused(), 1);
    assert_eq!((SHORT_HEADER, LONG_HEADER), (24, 40));
}

#[test]
fn facts_are_taken_piece_by_piece_and_a_record_belongs_where_it_ends() {
    let steps = [
        Step::Commit {
            time: 10,
            more: 0,
            prepared: false,
        },
        Step::Point("p".into()),
        Step::Commit {
            time: 30,
            more: 9000,
            prepared: false,
        },
        Step::Commit {
            time: 20,
            more: 0,
            prepared: true,
        },
        Step::Checkpoint(true),
    ];
    let (server, expected) = play(&steps, Lsn(0), MAGICS[0]);
    let mut collector = FactsCollector::new(Lsn(0), size());
    let middle = expected[2].lsn.0 as usize + 100;
    collector.push(&server.bytes[..middle]);
    let first = collector.take();
    assert_eq!(first.first_commit.map(|commit| commit.lsn), Some(expected[0].lsn));
    assert_eq!(first.last_commit, first.first_commit);
    assert_eq!(first.restore_points.len(), 1);
    assert_eq!(first.records_end, Some(expected[1].end));
    assert_eq!(collector.clean_stop(), None);
    collector.push(&server.bytes[middle..]);
    let second = collector.take();
    assert_eq!(second.first_commit.map(|commit| commit.lsn), Some(expected[2].lsn));
    assert_eq!(second.last_commit.map(|commit| commit.time), Some(ServerTime(20)));
    assert_eq!(second.latest_commit.map(|commit| commit.time), Some(ServerTime(30)));
    assert_eq!(second.records_end, Some(expected[4].end));
    assert_eq!(collector.clean_stop(), Some(expected[4].end));
    assert_eq!(collector.position(), server.position());
    assert_eq!(collector.refused(), 0);
    assert_eq!(collector.take(), hardstorage_repository::wal::RecordFacts::default());
}
