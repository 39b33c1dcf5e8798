//! Writes one WAL object while its bytes arrive, with bounded memory.
//!
//! One frame fills while the one before it is put together, hashed, compressed and sealed on a worker thread; one that is so
//! small that the way to a worker and back would take as long is done at once. Of what is handed over
//! ([`ObjectWriter::take`]) nothing is copied before: whoever brings it may be who commits wait for. What comes out is held
//! back up to [`HELD`] bytes: a segment of 16 MiB is one create-only put. What is larger becomes a create-only upload in
//! parts, so that a segment of 1 GiB takes no more memory than one of 32 MiB.

use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Lsn, Result, code};
use hardstorage_storage::{Created, DynStore, Key, Upload};
use tokio::task::JoinHandle;

use super::encode::{Encoder, Finished};
use super::facts::RecordFacts;
use super::format::{FRAME_LEN, Header, WalKind};
use super::metadata::WalMetadata;
use super::{Place, WalArchive};

/// How many stored bytes are held back before an upload in parts begins: an incompressible segment of 16 MiB fits.
const HELD: usize = 17 << 20;
/// The parts of an upload.
const PART: usize = 8 << 20;

/// A frame below this is no work for another thread: a few hundred microseconds at most.
const SMALL: usize = 64 << 10;

/// What a job on a worker thread takes and gives back.
struct Work {
    encoder: Box<Encoder>,
    raw: Vec<u8>,
    stored: Vec<u8>,
}

impl Work {
    /// Puts the pieces of a frame together, and packs it.
    fn frame(mut self, pieces: Vec<Bytes>) -> Work {
        self.raw.clear();
        for piece in pieces {
            self.raw.extend_from_slice(&piece);
        }
        self.encoder.frame(&self.raw, &mut self.stored);
        self
    }
}

/// Writes one object.
pub(super) struct ObjectWriter {
    store: DynStore,
    key: Key,
    position: Lsn,
    /// The frame that fills, in the pieces that came.
    pieces: Vec<Bytes>,
    /// Buffers that come back from the worker.
    work: Option<JoinHandle<Work>>,
    idle: Option<Work>,
    held: BytesMut,
    upload: Option<Box<dyn Upload>>,
    part: usize,
}

/// An object that is written and waits to appear under its name.
pub(super) struct Pending {
    store: DynStore,
    key: Key,
    held: Bytes,
    upload: Option<Box<dyn Upload>>,
    finished: Finished,
}

impl ObjectWriter {
    /// Begins an object at `key`.
    pub(super) fn new(archive: &WalArchive, key: Key, kind: WalKind, place: Place) -> Result<ObjectWriter> {
        let deployment = archive.deployment();
        let header = Header {
            kind,
            sealed: deployment.key().seals(),
            key_id: *deployment.key().id(),
            salt: deployment.surroundings().random()?,
            segment_size: archive.segment_size(),
        };
        let mut stored = archive.take_buffer();
        let encoder = Box::new(Encoder::new(
            deployment.key(),
            deployment.config().wal_level,
            header,
            (archive.lineage(), place.timeline, place.start),
            &mut stored,
        )?);
        Ok(ObjectWriter {
            store: deployment.store().clone(),
            part: PART.max(usize::try_from(deployment.store().caps().min_part).unwrap_or(PART)),
            key,
            position: place.start,
            pieces: Vec::new(),
            work: None,
            idle: Some(Work {
                encoder,
                raw: archive.take_buffer(),
                stored,
            }),
            held: BytesMut::new(),
            upload: None,
        })
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> Lsn {
        self.position
    }

    /// Takes the next bytes, and keeps hold of them until their frame is full.
    pub(super) async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = FRAME_LEN - (self.position.0 % FRAME_LEN as u64) as usize;
            let here = bytes.split_to(bytes.len().min(room));
            let length = here.len();
            self.pieces.push(here);
            self.position = self.position.add(length as u64);
            if length == room {
                self.frame().await?;
            }
        }
        Ok(())
    }

    /// Whether what the frame holds so far is no work for another thread.
    fn is_small(&self) -> bool {
        self.pieces.iter().map(Bytes::len).sum::<usize>() < SMALL
    }

    /// Sends the frame that is full to the worker.
    async fn frame(&mut self) -> Result<()> {
        let work = self.settle().await?;
        let small = self.is_small();
        let pieces = std::mem::take(&mut self.pieces);
        let pack = move || work.frame(pieces);
        if small {
            self.idle = Some(pack());
        } else {
            self.work = Some(tokio::task::spawn_blocking(pack));
        }
        Ok(())
    }

    /// Waits for the worker and takes over what it has made.
    async fn settle(&mut self) -> Result<Work> {
        let mut work = match (self.work.take(), self.idle.take()) {
            (Some(running), _) => running
                .await
                .map_err(|error| Error::new(code::storage::IO, format!("prepare object {}", self.key)).source(error))?,
            (None, Some(idle)) => idle,
            (None, None) => return Err(self.broken()),
        };
        self.held.extend_from_slice(&work.stored);
        work.stored.clear();
        if self.upload.is_none() && self.held.len() > HELD {
            self.upload = Some(self.store.upload_new(&self.key).await?);
        }
        if let Some(upload) = &mut self.upload {
            while self.held.len() >= self.part {
                upload.write(self.held.split_to(self.part).freeze()).await?;
            }
        }
        Ok(work)
    }

    /// A writer whose last call failed or was cancelled has lost its encoder and takes nothing more.
    fn broken(&self) -> Error {
        Error::new(
            code::storage::IO,
            format!("object {} was given up after an earlier failure", self.key),
        )
    }

    /// Ends the object; it does not appear yet.
    pub(super) async fn finish(mut self, archive: &WalArchive, facts: RecordFacts) -> Result<Pending> {
        let small = self.work.is_none() && self.held.is_empty() && self.is_small();
        if !self.pieces.is_empty() {
            self.frame().await?;
        }
        let Work {
            encoder,
            raw,
            mut stored,
        } = self.settle().await?;
        let last = move || {
            let finished = encoder.finish(facts, &mut stored);
            (finished, stored)
        };
        let (finished, stored) = if small {
            last()
        } else {
            let job = tokio::task::spawn_blocking(last);
            job.await
                .map_err(|error| Error::new(code::storage::IO, format!("prepare object {}", self.key)).source(error))?
        };
        self.held.extend_from_slice(&stored);
        for buffer in [raw, stored] {
            archive.give_buffer(buffer);
        }
        Ok(Pending {
            store: self.store,
            key: self.key,
            held: self.held.freeze(),
            upload: self.upload,
            finished,
        })
    }
}

impl Pending {
    /// What the object says about itself.
    pub(super) fn metadata(&self) -> &WalMetadata {
        &self.finished.metadata
    }

    /// Its page hashes.
    pub(super) fn pages(&self) -> &[u64] {
        &self.finished.pages
    }

    /// Makes the object appear, durably, unless the name is taken.
    pub(super) async fn commit(self) -> Result<Created> {
        // Synced also when it was there before: whoever created it may have died before its own barrier.
        let Some(mut upload) = self.upload else {
            return self.store.put_durable(&self.key, self.held).await;
        };
        if !self.held.is_empty() {
            upload.write(self.held).await?;
        }
        let created = upload.finish().await?;
        self.store.sync().await?;
        Ok(created)
    }

    /// Gives up what was uploaded.
    pub(super) async fn abort(self) -> Result<()> {
        match self.upload {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}
