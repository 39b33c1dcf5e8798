//! The walk over pages and records.
//!
//! Bytes come in pieces of any size, in order. The scanner may begin anywhere: before the first page boundary it knows
//! nothing, and where a page begins in the middle of a record the page's header says how much of it to pass over.
//! Whatever does not fit (an empty page, one left over from an earlier use of the file, a record whose checksum does
//! not hold) costs the rest of that page, never an error: it is what the end of WAL looks like.

use hardstorage_codec::crc32c_append;
use hardstorage_report::{Lsn, SegmentSize};

use super::page::{LONG_HEADER, PAGE_LEN, PageHeader, header_len};
use super::record::{Found, KEPT, RECORD_HEADER, RecordHeader};

/// The next multiple; at the end of the address space, the end.
fn aligned(lsn: Lsn, to: u64) -> Lsn {
    Lsn(lsn.0.checked_next_multiple_of(to).unwrap_or(u64::MAX))
}

/// A record that has begun.
#[derive(Debug)]
struct Open {
    start: Lsn,
    header: Option<RecordHeader>,
    /// Header, then as much of the body as is worth keeping.
    bytes: Vec<u8>,
    /// Bytes still to come; before the header is known, of the header.
    missing: u32,
    body_crc: u32,
}

#[derive(Debug)]
enum Step {
    /// Nothing is known up to the next page.
    Lost,
    /// Passing over bytes of a record whose beginning was not seen.
    Skip(u32),
    /// The next byte may begin a record (after padding).
    Between,
    /// Within a record.
    Record,
    /// Behind a switch record: nothing up to the next segment.
    Switched,
}

/// Walks over WAL that comes in pieces.
#[derive(Debug)]
pub struct Scanner {
    position: Lsn,
    segment_size: SegmentSize,
    page: Lsn,
    page_header: Vec<u8>,
    in_page_header: bool,
    step: Step,
    record: Open,
    last_record: Option<Lsn>,
    records_end: Option<Lsn>,
    refused: u64,
}

impl Scanner {
    /// Begins at a position: a segment's start, or anywhere.
    pub fn new(start: Lsn, segment_size: SegmentSize) -> Scanner {
        Scanner {
            position: start,
            segment_size,
            page: start,
            page_header: Vec::with_capacity(LONG_HEADER),
            in_page_header: false,
            step: Step::Lost,
            record: Open {
                start,
                header: None,
                bytes: Vec::with_capacity(RECORD_HEADER + KEPT),
                missing: 0,
                body_crc: 0,
            },
            last_record: None,
            records_end: None,
            refused: 0,
        }
    }

    /// The position of the next byte that is expected.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Where the last whole record begins; `None` before the first.
    pub fn last_record(&self) -> Option<Lsn> {
        self.last_record
    }

    /// Where the last whole record ended; `None` before the first.
    pub fn records_end(&self) -> Option<Lsn> {
        self.records_end
    }

    /// Whether the bytes before the position are of a record, or empty behind a switch. False where the WAL has ended: in
    /// the file of a segment that is still written, what follows is of an earlier use.
    pub fn follows(&self) -> bool {
        !matches!(self.step, Step::Lost)
    }

    /// How many records were begun and did not hold: a checksum that does not match, or a record that was overwritten
    /// after a crash of the server.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes the next bytes and reports what was found, in order.
    pub fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = (self.position.0 % PAGE_LEN as u64) as usize;
            if offset == 0 && !self.in_page_header {
                self.page = self.position;
                self.page_header.clear();
                self.in_page_header = true;
            }
            let here = if self.in_page_header {
                self.take_page_header(rest)
            } else {
                let on_page = &rest[..rest.len().min(PAGE_LEN - offset)];
                self.take_records(on_page, found)
            };
            rest = &rest[here..];
            self.position = self.position.add(here as u64);
        }
    }

    /// Collects the page's header; returns how many bytes it took.
    fn take_page_header(&mut self, rest: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let wanted = self.page_header.first_chunk::<4>().map_or(4, |head| header_len(*head));
            if self.page_header.len() == wanted && wanted > 4 {
                break;
            }
            let Some(byte) = rest.get(taken) else { return taken };
            self.page_header.push(*byte);
            taken += 1;
        }
        self.in_page_header = false;
        let header = PageHeader::decode(&self.page_header, self.page, self.segment_size.bytes());
        self.begin_page(header);
        taken
    }

    fn begin_page(&mut self, header: Option<PageHeader>) {
        let new_segment = self.page.segment_offset(self.segment_size) == 0;
        if matches!(self.step, Step::Switched) && !new_segment {
            return;
        }
        let Some(header) = header else {
            self.give_up();
            return;
        };
        let continued = header.continues.then_some(header.remaining);
        match (&self.step, continued) {
            (Step::Record, Some(remaining)) if self.continues(remaining) => {}
            (Step::Skip(missing), Some(remaining)) if *missing == remaining => {}
            (_, Some(remaining)) => {
                self.drop_record();
                self.step = Step::Skip(remaining);
            }
            (_, None) => {
                self.drop_record();
                self.step = Step::Between;
            }
        }
    }

    /// Whether the page goes on with the record that is open. Its length is known unless the page ended within its
    /// first four bytes, which alignment rules out.
    fn continues(&self, remaining: u32) -> bool {
        match (&self.record.header, self.record.bytes.first_chunk::<4>()) {
            (Some(_), _) => self.record.missing == remaining,
            (None, Some(total)) => {
                u32::from_le_bytes(*total).checked_sub(self.record.bytes.len() as u32) == Some(remaining)
            }
            (None, None) => false,
        }
    }

    fn drop_record(&mut self) {
        if matches!(self.step, Step::Record) {
            self.refused += 1;
        }
    }

    fn give_up(&mut self) {
        self.drop_record();
        self.step = Step::Lost;
    }

    /// Takes bytes of one page behind its header; returns how many.
    fn take_records(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> usize {
        match &mut self.step {
            Step::Lost | Step::Switched => bytes.len(),
            Step::Skip(missing) => {
                let here = bytes.len().min(*missing as usize);
                *missing -= here as u32;
                if *missing == 0 {
                    self.step = Step::Between;
                }
                here
            }
            Step::Between => {
                // Records begin at multiples of eight; what lies between is padding.
                let padding = (self.position.0.wrapping_neg() % 8) as usize;
                if padding > 0 {
                    return padding.min(bytes.len());
                }
                self.record.start = self.position;
                self.record.header = None;
                self.record.bytes.clear();
                self.record.missing = RECORD_HEADER as u32;
                self.record.body_crc = 0;
                self.step = Step::Record;
                0
            }
            Step::Record => self.take_record(bytes, found),
        }
    }

    fn take_record(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> usize {
        let record = &mut self.record;
        let here = bytes.len().min(record.missing as usize);
        let piece = &bytes[..here];
        record.missing -= here as u32;
        if let Some(header) = &record.header {
            record.body_crc = crc32c_append(record.body_crc, piece);
            let room = (RECORD_HEADER + header.kept()).saturating_sub(record.bytes.len());
            record.bytes.extend_from_slice(&piece[..here.min(room)]);
        } else {
            record.bytes.extend_from_slice(piece);
            // Four zero bytes where a length should be: nothing was written from here on.
            if record.bytes.first_chunk::<4>().is_some_and(|total| *total == [0; 4]) {
                self.step = Step::Lost;
                return here;
            }
            let Some(head) = record.bytes.first_chunk::<RECORD_HEADER>() else {
                return here;
            };
            let Some(header) = RecordHeader::decode(head) else {
                self.give_up();
                return here;
            };
            record.missing = header.total - RECORD_HEADER as u32;
            record.header = Some(header);
        }
        if self.record.missing == 0 {
            self.close_record(self.position.add(here as u64), found);
        }
        here
    }

    fn close_record(&mut self, end: Lsn, found: &mut dyn FnMut(Found)) {
        let Some(header) = self.record.header else { return };
        if !header.checks(self.record.body_crc) {
            self.give_up();
            return;
        }
        let end = if header.is_switch() {
            self.step = Step::Switched;
            aligned(end, self.segment_size.bytes())
        } else {
            self.step = Step::Between;
            aligned(end, 8)
        };
        self.last_record = Some(self.record.start);
        self.records_end = Some(end);
        let body = self.record.bytes.get(RECORD_HEADER..).unwrap_or_default();
        if let Some(kind) = header.read(body) {
            found(Found {
                lsn: self.record.start,
                end,
                kind,
            });
        }
    }
}
