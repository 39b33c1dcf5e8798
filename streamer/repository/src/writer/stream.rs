//! A stream of packs of one kind: numbers and seals frames, fills packs, and hands them to the store while they grow.
//!
//! Runs on the packer's thread, which alone seals: every number of a pack is used once. Uploads are tasks of the
//! runtime; a bounded channel to each makes a slow store slow the packer down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hardstorage_codec::{PlainHash, plain_hash};
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{Created, DynStore, Key};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::batch::Payload;
use super::chunks::{CHUNK_LEN, Chunks};
use crate::pack::{DirectoryEntry, FOOTER_LEN, FRAME_HEADER_LEN, Footer, FramePos, PackCipher};
use crate::table::PackRecord;
use crate::{Deployment, PackId, PackKind, WriterId, layout};

/// Chunks that wait for one upload.
const WAITING_CHUNKS: usize = 2;
/// Packs whose last bytes are on their way while the next one is filled.
const FINISHING_PACKS: usize = 2;

/// What both streams of a backup share.
#[derive(Debug, Clone)]
pub(super) struct Harbour {
    pub(super) deployment: Deployment,
    pub(super) writer: WriterId,
    pub(super) runtime: Handle,
    pub(super) cancel: CancellationToken,
    pub(super) chunks: Chunks,
}

enum Cargo {
    Bytes(Bytes),
    End,
}

/// What became of an upload, for those who only wait for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrival {
    ended: CancellationToken,
    stored: Arc<AtomicBool>,
}

impl Arrival {
    /// Waits for the end of the upload, whatever that is; whether the store has the pack.
    pub(super) async fn came(&self) -> bool {
        self.ended.cancelled().await;
        self.stored.load(Ordering::Acquire)
    }
}

/// A pack whose last bytes are on their way.
struct Finishing {
    task: JoinHandle<Result<()>>,
    arrival: Arrival,
}

struct OpenPack {
    cipher: PackCipher,
    length: u64,
    directory: Vec<u8>,
    frames: u32,
    total: u64,
    digest: PlainHash,
    chunk: Vec<u8>,
    upload: mpsc::Sender<Cargo>,
    task: JoinHandle<Result<()>>,
    arrival: Arrival,
}

/// Packs of one kind.
pub(super) struct PackStream {
    harbour: Harbour,
    kind: PackKind,
    next_sequence: u32,
    pack_size: u64,
    open: Option<OpenPack>,
    finishing: VecDeque<Finishing>,
    finished: Vec<PackRecord>,
    stored: u64,
}

/// Where a frame has been put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) pack: PackId,
    /// Its `pack` means nothing yet.
    pub(super) at: FramePos,
}

impl PackStream {
    /// Data packs count from 0, meta packs from 80000000 (hex): neither's numbers depend on the other's.
    pub(super) fn new(harbour: Harbour, kind: PackKind) -> PackStream {
        PackStream {
            pack_size: harbour.deployment.config().pack_size,
            harbour,
            kind,
            next_sequence: match kind {
                PackKind::Data => 0,
                PackKind::Meta => 1 << 31,
            },
            open: None,
            finishing: VecDeque::new(),
            finished: Vec::new(),
            stored: 0,
        }
    }

    /// Packs of metadata with these numbers, each as long as it takes.
    pub(super) fn beginning_at(harbour: Harbour, sequence: u32) -> PackStream {
        PackStream {
            next_sequence: sequence,
            pack_size: u64::MAX,
            ..PackStream::new(harbour, PackKind::Meta)
        }
    }

    /// Whether no pack is begun.
    pub(super) fn is_between_packs(&self) -> bool {
        self.open.is_none()
    }

    /// The packs that were ended since they were last taken.
    pub(super) fn finished(&self) -> &[PackRecord] {
        &self.finished
    }

    /// What to wait for until the store has every pack that was ended.
    pub(super) fn on_their_way(&self) -> Vec<Arrival> {
        self.finishing.iter().map(|pack| pack.arrival.clone()).collect()
    }

    /// The pack that the next frame goes into, when none is open.
    pub(super) fn next_id(&self) -> PackId {
        PackId {
            writer: self.harbour.writer,
            sequence: self.next_sequence,
        }
    }

    /// Puts everything that follows into one pack.
    pub(super) fn never_full(&mut self) {
        self.pack_size = u64::MAX;
    }

    /// Bytes in all packs so far.
    pub(super) fn stored(&self) -> u64 {
        self.stored + self.open.as_ref().map_or(0, |pack| pack.length)
    }

    /// Seals a payload in place and puts it into the current pack; `units` is what it adds to the pack's total.
    pub(super) fn put(&mut self, payload: Payload, packed: &mut Vec<u8>, units: u64) -> Result<Placed> {
        let mut pack = match self.open.take() {
            Some(pack) => pack,
            None => self.begin()?,
        };
        let number = pack.frames;
        let header = pack.cipher.seal_frame(number, payload.codec, payload.raw_len, packed);
        let at = FramePos {
            pack: 0,
            number,
            offset: pack.length,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            codec: payload.codec,
            hash: payload.hash,
        };
        let entry = DirectoryEntry {
            offset: at.offset,
            stored_len: at.stored_len,
            raw_len: at.raw_len,
            codec: at.codec,
            hash: at.hash,
        };
        entry.encode(&mut pack.directory);
        pack.frames += 1;
        pack.total += units;
        if pack.chunk.len() + FRAME_HEADER_LEN + packed.len() > CHUNK_LEN {
            self.ship(&mut pack)?;
        }
        pack.chunk.extend_from_slice(&header.encode());
        pack.chunk.extend_from_slice(packed);
        pack.length += (FRAME_HEADER_LEN + packed.len()) as u64;
        let id = pack.cipher.header().id;
        let full = pack.length >= self.pack_size;
        self.open = Some(pack);
        if full {
            self.close()?;
        }
        Ok(Placed { pack: id, at })
    }

    fn begin(&mut self) -> Result<OpenPack> {
        while self.finishing.len() >= FINISHING_PACKS {
            self.wait_for_one()?;
        }
        let id = self.next_id();
        self.next_sequence += 1;
        let deployment = &self.harbour.deployment;
        let cipher = PackCipher::new(deployment.key(), id, self.kind);
        let header = cipher.header().encode();
        let key = layout::pack(deployment.name(), &id.writer, id.sequence);
        let (upload, cargo) = mpsc::channel(WAITING_CHUNKS);
        let (store, cancel) = (Arc::clone(deployment.store()), self.harbour.cancel.clone());
        let arrival = Arrival::default();
        let told = arrival.clone();
        let task = self.harbour.runtime.spawn(async move {
            // Also when the upload fails or is dropped: nobody waits for ever.
            let _ended = told.ended.drop_guard();
            carry(store, key, cargo, cancel).await?;
            told.stored.store(true, Ordering::Release);
            Ok(())
        });
        let mut chunk = self.harbour.chunks.take();
        chunk.extend_from_slice(&header);
        Ok(OpenPack {
            cipher,
            length: header.len() as u64,
            directory: Vec::new(),
            frames: 0,
            total: 0,
            digest: PlainHash::default(),
            chunk,
            upload,
            task,
            arrival,
        })
    }

    /// Hashes and sends the current chunk.
    fn ship(&mut self, pack: &mut OpenPack) -> Result<()> {
        pack.digest.update(&pack.chunk);
        let chunk = std::mem::replace(&mut pack.chunk, self.harbour.chunks.take());
        let bytes = self.harbour.chunks.lend(chunk);
        self.send(pack, Cargo::Bytes(bytes))
    }

    fn send(&self, pack: &mut OpenPack, cargo: Cargo) -> Result<()> {
        if pack.upload.blocking_send(cargo).is_ok() {
            return Ok(());
        }
        // The task has ended before its time: it knows why.
        self.harbour.wait(&mut pack.task)?;
        Err(Error::new(
            code::storage::IO,
            "an upload ended before it had everything",
        ))
    }

    /// Ends the current pack, if there is one.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(mut pack) = self.open.take() else {
            return Ok(());
        };
        let directory_offset = pack.length;
        let mut directory = std::mem::take(&mut pack.directory);
        pack.cipher.seal_directory(pack.frames, &mut directory);
        if pack.chunk.len() + directory.len() + FOOTER_LEN > CHUNK_LEN {
            self.ship(&mut pack)?;
        }
        pack.chunk.extend_from_slice(&directory);
        pack.digest.update(&pack.chunk);
        let footer = Footer {
            directory_offset,
            directory_len: directory.len() as u32,
            frames: pack.frames,
            digest: pack.digest.finish(),
        };
        pack.chunk.extend_from_slice(&footer.encode());
        let length = directory_offset + (directory.len() + FOOTER_LEN) as u64;
        let last = self.harbour.chunks.lend(std::mem::take(&mut pack.chunk));
        self.send(&mut pack, Cargo::Bytes(last))?;
        self.send(&mut pack, Cargo::End)?;
        self.finished.push(PackRecord {
            id: pack.cipher.header().id,
            kind: self.kind,
            length,
            directory_hash: plain_hash(&directory),
            digest: footer.digest,
            live: 0,
            total: pack.total,
            lock_until: 0,
        });
        self.stored += length;
        self.finishing.push_back(Finishing {
            task: pack.task,
            arrival: pack.arrival,
        });
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<()> {
        match self.finishing.pop_front() {
            Some(mut pack) => self.harbour.wait(&mut pack.task),
            None => Ok(()),
        }
    }

    /// Ends the current pack, and takes the records of those finished since the last time. They say what the store will
    /// have once [`PackStream::settle`] has returned.
    pub(super) fn end(&mut self) -> Result<Vec<PackRecord>> {
        self.close()?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Ends the current pack, and waits until the store has all packs.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.close()?;
        while !self.finishing.is_empty() {
            self.wait_for_one()?;
        }
        Ok(())
    }
}

impl Harbour {
    fn wait(&self, task: &mut JoinHandle<Result<()>>) -> Result<()> {
        self.runtime
            .block_on(task)
            .map_err(|error| Error::new(code::storage::IO, "an upload ended abnormally").source(error))?
    }
}

/// Carries one pack to the store.
async fn carry(store: DynStore, key: Key, mut cargo: mpsc::Receiver<Cargo>, cancel: CancellationToken) -> Result<()> {
    let interrupted = || Error::new(code::cli::INTERRUPTED, format!("the upload of {key} was given up"));
    let mut tail = Bytes::new();
    let all = async {
        let mut upload = store.upload_new(&key).await?;
        loop {
            match cargo.recv().await {
                Some(Cargo::Bytes(bytes)) => {
                    tail = bytes.clone();
                    if let Err(error) = upload.write(bytes).await {
                        return Err(give_up(upload, error).await);
                    }
                }
                Some(Cargo::End) => break,
                None => return Err(give_up(upload, interrupted()).await),
            }
        }
        upload.finish().await
    };
    let created = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(interrupted()),
        created = all => created.map_err(|error| error.context(format!("store pack {key}")))?,
    };
    match created {
        Created::Created => Ok(()),
        // The name is random: what is there is what this very upload left, its answer having been lost, or an alarm.
        Created::Exists if ends_with(&store, &key, &tail).await? => Ok(()),
        Created::Exists => Err(Error::new(
            code::repository::COMMIT_CONFLICT,
            format!("pack {key} exists already, with other bytes"),
        )),
    }
}

async fn give_up(upload: Box<dyn hardstorage_storage::Upload>, error: Error) -> Error {
    if let Err(second) = upload.abort().await {
        tracing::warn!(error = %second, "what a failed upload left behind could not be removed");
    }
    error
}

/// Whether the stored object ends with these bytes, which hold the digest of everything before.
async fn ends_with(store: &DynStore, key: &Key, tail: &Bytes) -> Result<bool> {
    let Some(meta) = store.head(key).await? else {
        return Ok(false);
    };
    let footer = tail.get(tail.len().saturating_sub(FOOTER_LEN)..).unwrap_or_default();
    let Some(start) = meta.size.checked_sub(footer.len() as u64) else {
        return Ok(false);
    };
    // The footer's own offsets fix the length of the object that it belongs to.
    let promised = Footer::decode(footer, meta.size).is_ok();
    Ok(promised && store.get_range(key, start..meta.size).await? == footer)
}
