//! What the worker threads do: open, check and decompress a frame, and write its pieces to where they belong.
//!
//! A thread owns its buffers. Whoever deals with the last piece of a part adds up the part, whoever deals with the last
//! part adds up the file; nothing waits. A frame that is bad is sent back once, to be read again by itself.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hardstorage_report::{Error, Result};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::checksum::Combiner;
use super::file::{FilePart, OpenFile};
use super::report::ContentDamage;
use super::sink::FileSink;
use super::window::Window;
use crate::pack::FrameReader;
use crate::{Deployment, PackKind};

/// Called from worker threads: so many more bytes of files were written.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What threads tell the run.
pub(super) enum Outcome<H> {
    /// Read this frame of the window again, by itself.
    Again(Arc<Window<H>>, usize),
    /// Something is damaged.
    Damaged(ContentDamage),
    /// The sink failed.
    Failed(Error),
    /// A job with its ticket is done.
    Done,
}

/// Stands for a read until every frame in it is dealt with, and holds its share of the bytes in flight.
pub(super) struct Ticket<H> {
    outcomes: UnboundedSender<Outcome<H>>,
    share: Option<OwnedSemaphorePermit>,
}

impl<H> Ticket<H> {
    pub(super) fn new(outcomes: &UnboundedSender<Outcome<H>>) -> Ticket<H> {
        Ticket {
            outcomes: outcomes.clone(),
            share: None,
        }
    }

    /// With a share of the bytes in flight, which goes back with the ticket.
    pub(super) fn holding(mut self, share: Option<OwnedSemaphorePermit>) -> Ticket<H> {
        self.share = share;
        self
    }
}

impl<H> Drop for Ticket<H> {
    fn drop(&mut self) {
        drop(self.share.take());
        // The run may have ended: then nobody counts any more.
        let _ = self.outcomes.send(Outcome::Done);
    }
}

/// Bytes of a pack that were read together.
pub(super) struct Chunk<H> {
    pub(super) window: Arc<Window<H>>,
    /// The offset of the first byte in the pack.
    pub(super) start: u64,
    pub(super) bytes: Bytes,
    /// A bad frame in it is bad for good.
    pub(super) last_try: bool,
    pub(super) _ticket: Ticket<H>,
}

/// Work for a thread.
pub(super) enum Job<H> {
    /// A frame of a chunk.
    Frame(Arc<Chunk<H>>, usize),
    /// Frames that cannot be read.
    Lost {
        window: Arc<Window<H>>,
        frames: Range<usize>,
        loss: Loss,
        _ticket: Ticket<H>,
    },
    /// The files of a window that need no frame.
    Bare { window: Arc<Window<H>>, _ticket: Ticket<H> },
}

/// Why frames cannot be read.
pub(super) struct Loss {
    pub(super) reason: String,
    /// The whole pack is not there.
    pub(super) pack_missing: bool,
}

/// What all threads share.
pub(super) struct Shared<S: FileSink> {
    pub(super) sink: Arc<S>,
    pub(super) deployment: Deployment,
    pub(super) outcomes: UnboundedSender<Outcome<S::Handle>>,
    pub(super) progress: Option<Progress>,
    /// Nothing more is to be begun.
    pub(super) stop: AtomicBool,
    pub(super) files: AtomicU64,
    pub(super) damaged_files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) frames: AtomicU64,
}

impl<S: FileSink> Shared<S> {
    fn tell(&self, outcome: Outcome<S::Handle>) {
        // As above: without a run there is nobody to tell.
        let _ = self.outcomes.send(outcome);
    }

    fn written(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress(bytes);
    }

    fn kept(&self, bytes: u64) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        self.progress(bytes);
    }

    fn progress(&self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress(bytes);
        }
    }
}

/// One thread.
pub(super) struct Worker<S: FileSink> {
    shared: Arc<Shared<S>>,
    reader: FrameReader,
    raw: Vec<u8>,
    combiner: Combiner,
}

impl<S: FileSink> Worker<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Worker<S> {
        Worker {
            reader: FrameReader::new(shared.deployment.key()),
            shared,
            raw: Vec::new(),
            combiner: Combiner::default(),
        }
    }

    /// Does one job.
    pub(super) fn run(&mut self, job: &Job<S::Handle>) {
        if self.shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let done = match job {
            Job::Frame(chunk, frame) => self.frame(chunk, *frame),
            Job::Lost {
                window, frames, loss, ..
            } => frames.clone().try_for_each(|frame| self.lost(window, frame, loss)),
            Job::Bare { window, .. } => window.bare.iter().try_for_each(|part| {
                let part = window.files.get(*part as usize);
                part.map_or(Ok(()), |part| self.part_done(part))
            }),
        };
        if let Err(error) = done {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.tell(Outcome::Failed(error));
        }
    }

    fn frame(&mut self, chunk: &Chunk<S::Handle>, number: usize) -> Result<()> {
        let window = &chunk.window;
        let Some((frame, pack)) = window
            .frames
            .get(number)
            .and_then(|frame| Some((&frame.pos, window.pack_of(&frame.pos)?)))
        else {
            return Ok(());
        };
        let start = frame.offset.saturating_sub(chunk.start) as usize;
        let end = frame.end().saturating_sub(chunk.start) as usize;
        let stored = chunk.bytes.get(start..end).unwrap_or_default();
        if let Err(error) = self.reader.open_pos(frame, pack, PackKind::Data, stored, &mut self.raw) {
            if chunk.last_try {
                let loss = Loss {
                    reason: error.to_string(),
                    pack_missing: false,
                };
                return self.lost(window, number, &loss);
            }
            self.shared.tell(Outcome::Again(Arc::clone(window), number));
            return Ok(());
        }
        self.shared.frames.fetch_add(1, Ordering::Relaxed);
        let mut written = 0;
        for extent in window.extents_of(number) {
            let at = extent.frame_at as usize;
            let (Some(part), Some(bytes)) = (
                window.files.get(extent.file as usize),
                self.raw.get(at..at + extent.length as usize),
            ) else {
                continue;
            };
            let crc = hardstorage_codec::crc32c(bytes);
            let handle = self.begin(part)?;
            self.shared.sink.write_at(&handle, extent.offset, bytes)?;
            drop(handle);
            written += bytes.len() as u64;
            part.set_piece(extent.piece, crc);
            if part.piece_done() {
                self.part_done(part)?;
            }
        }
        self.shared.written(written);
        Ok(())
    }

    /// Deals with a frame that will not come.
    fn lost(&mut self, window: &Window<S::Handle>, number: usize, loss: &Loss) -> Result<()> {
        let mut files = BTreeSet::new();
        let extents = window.extents_of(number);
        for part in extents
            .iter()
            .filter_map(|extent| window.files.get(extent.file as usize))
        {
            part.file.set_damaged();
            files.insert(part.file.info.key.to_string());
        }
        if let Some(pos) = window.frames.get(number).map(|frame| &frame.pos) {
            let pack = window.pack_of(pos);
            self.shared.tell(Outcome::Damaged(ContentDamage {
                pack: pack.map(|pack| (pack, PackKind::Data)),
                object: pack.map_or_else(String::new, |pack| super::fetch::object(&self.shared.deployment, pack)),
                // A pack that is gone is one damage, not one for each frame.
                frame: (!loss.pack_missing).then_some(pos.number),
                pack_missing: loss.pack_missing,
                files,
                reason: loss.reason.clone(),
            }));
        }
        for part in extents
            .iter()
            .filter_map(|extent| window.files.get(extent.file as usize))
        {
            if part.piece_done() {
                self.part_done(part)?;
            }
        }
        Ok(())
    }

    fn handle(&self, file: &OpenFile<S::Handle>) -> Result<Arc<S::Handle>> {
        file.handle(|| self.shared.sink.create(&file.info))
    }

    /// The handle of the file of a part that something is written of.
    fn begin(&self, part: &FilePart<S::Handle>) -> Result<Arc<S::Handle>> {
        let handle = self.handle(&part.file)?;
        if part.begins() {
            for range in &part.stored {
                self.shared.sink.expect(&handle, range.start, range.end - range.start);
            }
        }
        Ok(handle)
    }

    fn part_done(&mut self, part: &FilePart<S::Handle>) -> Result<()> {
        let file = &part.file;
        if !part.zeros.is_empty() {
            let handle = self.handle(file)?;
            for zeros in &part.zeros {
                let length = zeros.end - zeros.start;
                self.shared.sink.zero(&handle, zeros.start, length)?;
                self.shared.written(length);
            }
        }
        self.shared.kept(part.kept);
        let (length, crc) = part.sum(&mut self.combiner);
        if !file.part_done(part.number, length, crc) {
            return Ok(());
        }
        if !file.is_damaged() {
            let (length, crc) = file.sum(&mut self.combiner);
            if (length, crc) == (file.info.size, file.info.crc32c) {
                let handle = self.handle(file)?;
                self.shared.sink.finish(&handle, crc, length)?;
                self.shared.files.fetch_add(1, Ordering::Relaxed);
                file.close();
                return Ok(());
            }
            let name = file.info.key.to_string();
            self.shared.tell(Outcome::Damaged(ContentDamage {
                pack: None,
                object: String::new(),
                frame: None,
                pack_missing: false,
                reason: format!(
                    "{name}: {length} bytes with checksum {crc:08X}, but the backup recorded {} with {:08X}",
                    file.info.size, file.info.crc32c
                ),
                files: BTreeSet::from([name]),
            }));
        }
        file.close();
        self.shared.damaged_files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
