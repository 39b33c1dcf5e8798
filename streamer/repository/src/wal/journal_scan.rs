//! Goes through a journal from its first record to the end that is there, and tells an end from damage.
//!
//! The writer may go on meanwhile, and a read is no snapshot: a record may be read before it was written, and one behind
//! it after. So what looks damaged because a whole record follows is read once more; it was whole before the next one was
//! begun.

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result};
use hardstorage_storage::{DynStore, Key};

use super::facts::RecordFacts;
use super::format::{FRAME_LEN, HEADER_LEN, WalKind};
use super::journal::{BLOCK, Head, LONGEST, Look, Record};
use super::metadata::WalMetadata;
use super::object_reader::{corrupt, off_thread};
use super::seal::ObjectSeal;
use super::trailer::check_place;
use super::{Place, WalArchive};

/// So much is read at once, at least.
const READ: u64 = 1 << 20;

/// Records one behind the other that hold no more than a frame of raw bytes together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Where they lie in the object.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// The number of the first.
    pub(super) first: u32,
    /// The WAL that they hold.
    pub(super) from: Lsn,
    pub(super) to: Lsn,
}

/// What a journal holds.
#[derive(Debug, Clone)]
pub(super) struct JournalScan {
    /// Where the metadata says that it begins, and the end of what was read; the facts are those of the records.
    pub(super) metadata: WalMetadata,
    pub(super) facts: RecordFacts,
    pub(super) runs: Vec<Run>,
    pub(super) walk: Walk,
    /// Set where a record is damaged: what lies before it was taken.
    pub(super) damage: Option<String>,
}

/// The way through the records.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) header: [u8; HEADER_LEN],
    /// `None`: without the key.
    pub(super) seal: Option<ObjectSeal>,
    offset: u64,
    next: u32,
    at: Lsn,
    /// No record reaches beyond it.
    limit: Lsn,
    /// No more is wanted than records that begin before it.
    until: Lsn,
    facts: RecordFacts,
    runs: Vec<Run>,
}

/// What ended a look at some bytes.
enum Met {
    /// They are used up, or as much is taken as was wanted.
    End,
    /// Here is no whole record.
    Broken,
    /// Whole, and not as its writer would have made it.
    Forged(Error),
}

impl Walk {
    fn new(header: [u8; HEADER_LEN], seal: Option<ObjectSeal>, start: Lsn, limit: Lsn) -> Walk {
        Walk {
            header,
            seal,
            offset: BLOCK as u64,
            next: 0,
            at: start,
            limit,
            until: limit,
            facts: RecordFacts::default(),
            runs: Vec::new(),
        }
    }

    fn done(&self) -> bool {
        self.at >= self.until
    }

    /// Takes the records that lie at `offset`. `last`: the object ends with these bytes.
    fn take(&mut self, mut bytes: &[u8], last: bool) -> Met {
        while !self.done() {
            let header = self.header;
            let record = match Record::look(&header, bytes) {
                Look::Record(record) if record.part.number == self.next => record,
                Look::Longer(_) if !last => return Met::End,
                Look::Record(_) | Look::Nothing | Look::Longer(_) => return Met::Broken,
            };
            let mut facts = match self.open(&record) {
                Ok(facts) => facts,
                Err(error) => return Met::Forged(error),
            };
            let (offset, from) = (self.offset, self.at);
            self.offset += record.length() as u64;
            self.at = self.at.add(u64::from(record.part.raw_len));
            if self.at > self.until {
                facts.end_at(self.until);
            }
            self.facts.join(&facts);
            match self.runs.last_mut() {
                Some(run) if run.from.bytes_until(self.at) <= FRAME_LEN as u64 => {
                    (run.end, run.to) = (self.offset, self.at);
                }
                _ => self.runs.push(Run {
                    offset,
                    end: self.offset,
                    first: self.next,
                    from,
                    to: self.at,
                }),
            }
            self.next = self.next.saturating_add(1);
            bytes = bytes.get(record.length()..).unwrap_or_default();
        }
        Met::End
    }

    fn open(&self, record: &Record<'_>) -> Result<RecordFacts> {
        if self.at.bytes_until(self.limit) < u64::from(record.part.raw_len) {
            return Err(corrupt("it reaches beyond its segment"));
        }
        match &self.seal {
            Some(seal) => record.open(seal, None),
            None => record.check().map(|()| RecordFacts::default()),
        }
    }

    /// The first place behind the one where the walk stands at which a whole record of this journal lies.
    async fn whole_behind(&self, object: &Source<'_>) -> Result<Option<u64>> {
        let mut at = self.offset + BLOCK as u64;
        while at < object.size {
            let bytes = object.read(at, READ).await?;
            for (index, block) in bytes.chunks(BLOCK).enumerate() {
                let place = at + (index * BLOCK) as u64;
                let found = match Record::look(&self.header, block) {
                    Look::Nothing => false,
                    Look::Record(record) => record.part.number > self.next,
                    Look::Longer(length) => {
                        let whole = object.read(place, length as u64).await?;
                        matches!(Record::look(&self.header, &whole), Look::Record(record) if record.part.number > self.next)
                    }
                };
                if found {
                    return Ok(Some(place));
                }
            }
            at += READ;
        }
        Ok(None)
    }
}

/// Where the bytes come from.
struct Source<'a> {
    store: &'a DynStore,
    key: &'a Key,
    size: u64,
}

impl Source<'_> {
    /// So many bytes, or what there is.
    async fn read(&self, from: u64, length: u64) -> Result<Bytes> {
        let to = self.size.min(from.saturating_add(length));
        if from >= to {
            return Ok(Bytes::new());
        }
        self.store.get_range(self.key, from..to).await
    }

    /// Walks to the end; what is damaged, if anything is.
    async fn walk(&self, mut walk: Walk) -> Result<(Walk, Option<String>)> {
        // The place that was read once more.
        let mut again = None;
        loop {
            // The longest record fits, so every turn takes one.
            let bytes = self.read(walk.offset, READ.max(LONGEST as u64)).await?;
            let last = walk.offset + bytes.len() as u64 >= self.size;
            let (back, met) = off_thread(move || {
                let met = walk.take(&bytes, last);
                Ok((walk, met))
            })
            .await?;
            walk = back;
            match met {
                Met::Forged(error) => return Ok((walk, Some(error.to_string()))),
                Met::End if walk.done() || last => return Ok((walk, None)),
                Met::End => {}
                Met::Broken => {
                    let number = walk.next;
                    let Some(behind) = walk.whole_behind(self).await? else {
                        let damage = (number == 0).then(|| "its first record is damaged".to_owned());
                        return Ok((walk, damage));
                    };
                    if again.replace(walk.offset) == Some(walk.offset) {
                        let damage = format!("record {number} is damaged, and a whole one lies behind it at {behind}");
                        return Ok((walk, Some(damage)));
                    }
                }
            }
        }
    }
}

/// Reads the head of a journal.
pub(super) async fn read_head(store: &DynStore, key: &Key, size: u64) -> Result<Head> {
    let block = Source { store, key, size }.read(0, BLOCK as u64).await?;
    Head::decode(&block).map_err(|error| error.context(format!("object {key}")))
}

/// Reads every byte without a key; the position counts from zero.
pub(super) async fn scan_bytes(store: &DynStore, key: &Key, size: u64) -> Result<()> {
    let head = read_head(store, key, size).await?;
    let limit = Lsn(head.header.segment_size.bytes());
    let walk = Walk::new(head.header.encode(), None, Lsn(0), limit);
    let (_, damage) = Source { store, key, size }.walk(walk).await?;
    damage.map_or(Ok(()), |damage| Err(corrupt(&damage)))
}

impl JournalScan {
    /// Goes through the journal of a place, whose length does not count. With `until` only as far as that position.
    pub(super) async fn new(
        archive: &WalArchive,
        key: &Key,
        size: u64,
        place: Place,
        until: Option<Lsn>,
    ) -> Result<JournalScan> {
        let (store, named) = (archive.deployment().store(), |error: Error| {
            error.context(format!("object {key}"))
        });
        let head = read_head(store, key, size).await?;
        let (header, seal, metadata) = head.open(archive.deployment().key()).map_err(named)?;
        let place = Place { length: 0, ..place };
        check_place(archive, &header, &metadata, WalKind::Journal, place).map_err(named)?;
        let bytes = archive.segment_size();
        let limit = place.start.segment_start(bytes).add(bytes.bytes());
        let mut walk = Walk::new(header.encode(), Some(seal), place.start, limit);
        walk.until = until.map_or(limit, |until| until.min(limit));
        let mut scan = JournalScan {
            metadata,
            facts: RecordFacts::default(),
            runs: Vec::new(),
            walk,
            damage: None,
        };
        scan.go_on(store, key, size).await?;
        Ok(scan)
    }

    /// Goes on where it ended, in a journal that may have grown. What comes is a run of its own.
    pub(super) async fn go_on(&mut self, store: &DynStore, key: &Key, size: u64) -> Result<()> {
        let (mut walk, damage) = Source { store, key, size }.walk(self.walk.clone()).await?;
        self.facts.join(&std::mem::take(&mut walk.facts));
        self.runs.append(&mut walk.runs);
        self.metadata.length = self.metadata.start.bytes_until(walk.at);
        self.metadata.restore_points = self.facts.restore_points.len() as u32;
        self.metadata.facts = RecordFacts {
            restore_points: Vec::new(),
            ..self.facts.clone()
        };
        (self.walk, self.damage) = (walk, damage);
        Ok(())
    }

    /// The scan, unless something is damaged.
    pub(super) fn sound(&self, key: &Key) -> Result<&JournalScan> {
        match &self.damage {
            None => Ok(self),
            Some(damage) => Err(corrupt(damage).context(format!("object {key}"))),
        }
    }
}
