//! Reads frames of meta packs: roots, the file table, map layers and columns.
//!
//! Few bytes beside the content, but many requests if each were read by itself; so what is wanted together is read
//! together, with small gaps (columns lie between the maps and are large). A frame that is bad is read once more.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use hardstorage_codec::{Digest128, equal};
use hardstorage_report::{Error, Result, code};

use super::fetch::{self, Fault};
use super::plan::blocking;
use super::ranges::{self, Place, Read};
use crate::pack::FrameReader;
use crate::{Deployment, FrameAt, PackId, PackKind, Root};

const GAP: u64 = 64 << 10;
const LARGEST: u64 = 4 << 20;
const READS: usize = 4;
/// A root is held in memory: the pack list of 100 TiB has 200 MB, a root beyond this is not one.
const LARGEST_ROOT: u64 = 4 << 30;

/// A frame that is wanted, and its hash when what points at it knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) at: FrameAt,
    pub(super) hash: Option<Digest128>,
}

/// A frame that could not be had.
#[derive(Debug, Clone)]
pub(super) struct BadFrame {
    pub(super) pack: PackId,
    pub(super) kind: PackKind,
    pub(super) frame: u32,
    pub(super) pack_missing: bool,
    pub(super) reason: String,
}

/// Reads small frames.
#[derive(Debug, Clone)]
pub(super) struct MetaReader {
    deployment: Deployment,
    /// Frame readers at rest: their buffers are kept.
    spare: Arc<Mutex<Vec<FrameReader>>>,
}

impl MetaReader {
    pub(super) fn new(deployment: &Deployment) -> MetaReader {
        MetaReader {
            deployment: deployment.clone(),
            spare: Arc::default(),
        }
    }

    pub(super) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The raw bytes of each frame, in the order asked for. The outer error is a store that fails.
    pub(super) async fn frames(&self, wanted: &[Wanted]) -> Result<Vec<Result<Vec<u8>, BadFrame>>> {
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|index| wanted.get(*index).map(|want| (want.at.pack, want.at.offset)));
        let sorted: Vec<Wanted> = order.iter().filter_map(|index| wanted.get(*index).copied()).collect();
        // Equal packs are neighbours now: any number that changes with the pack will do.
        let mut pack = 0;
        let places = sorted.iter().enumerate().map(|(index, want)| {
            let before = index.checked_sub(1).and_then(|before| sorted.get(before));
            pack += u32::from(before.is_some_and(|before| before.at.pack != want.at.pack));
            let span = fetch::span(&want.at);
            Place {
                pack,
                offset: span.start,
                length: span.end - span.start,
            }
        });
        let reads = ranges::merge(places, GAP, LARGEST);
        let mut answers = stream::iter(reads.into_iter().map(|read| self.read(&sorted, read))).buffered(READS);
        let mut found: Vec<Option<Result<Vec<u8>, BadFrame>>> = Vec::new();
        found.resize_with(wanted.len(), || None);
        let mut next = order.iter();
        while let Some(frames) = answers.next().await {
            for frame in frames? {
                if let Some(slot) = next.next().and_then(|index| found.get_mut(*index)) {
                    *slot = Some(frame);
                }
            }
        }
        let all: Option<Vec<_>> = found.into_iter().collect();
        all.ok_or_else(|| Error::new(code::cli::INTERNAL, "a read of metadata answered too few frames"))
    }

    async fn read(&self, sorted: &[Wanted], read: Read) -> Result<Vec<Result<Vec<u8>, BadFrame>>> {
        let Some(wanted) = sorted.get(read.frames).filter(|wanted| !wanted.is_empty()) else {
            return Ok(Vec::new());
        };
        let pack = wanted[0].at.pack;
        let start = read.bytes.start;
        let mut frames = match fetch::range(&self.deployment, pack, read.bytes).await {
            Ok(bytes) => self.open(wanted.to_vec(), bytes, start).await?,
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::Missing(reason)) => {
                let missing = |want| BadFrame {
                    pack_missing: true,
                    ..bad(want, reason.clone())
                };
                return Ok(wanted.iter().map(|want| Err(missing(want))).collect());
            }
            Err(Fault::Bad(reason)) => wanted.iter().map(|want| Err(bad(want, reason.clone()))).collect(),
        };
        for (want, frame) in wanted.iter().zip(&mut frames) {
            if frame.is_err() {
                *frame = self.again(want).await?;
            }
        }
        Ok(frames)
    }

    async fn again(&self, want: &Wanted) -> Result<Result<Vec<u8>, BadFrame>> {
        match fetch::range(&self.deployment, want.at.pack, fetch::span(&want.at)).await {
            Ok(bytes) => {
                let opened = self.open(vec![*want], bytes, want.at.offset).await?;
                Ok(opened
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| Err(bad(want, "it is empty".into()))))
            }
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::Missing(reason) | Fault::Bad(reason)) => Ok(Err(bad(want, reason))),
        }
    }

    /// Opens frames that lie in `bytes`, which begin at `start` in their pack, on a thread that may compute.
    async fn open(&self, wanted: Vec<Wanted>, bytes: Bytes, start: u64) -> Result<Vec<Result<Vec<u8>, BadFrame>>> {
        let this = self.clone();
        blocking(move || {
            let mut reader = this.take();
            let frames = wanted.iter().map(|want| {
                let span = fetch::span(&want.at);
                let stored = bytes
                    .get(span.start.saturating_sub(start) as usize..span.end.saturating_sub(start) as usize)
                    .unwrap_or_default();
                let mut raw = Vec::new();
                match reader.open(&want.at, want.hash.as_ref(), stored, &mut raw) {
                    Ok(()) => Ok(raw),
                    Err(error) => Err(bad(want, error.to_string())),
                }
            });
            let frames = frames.collect();
            this.give_back(reader);
            Ok(frames)
        })
        .await
    }

    fn take(&self) -> FrameReader {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| FrameReader::new(self.deployment.key()))
    }

    fn give_back(&self, reader: FrameReader) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    /// The value of a root; its hash is checked. `what` names it in messages.
    pub(super) async fn root(&self, root: &Root, what: &str) -> Result<Vec<u8>> {
        let corrupt = |problem: String| {
            Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("the backup's {what} cannot be read: {problem}"),
            )
        };
        let promised = root.frames.iter().map(|frame| u64::from(frame.raw_len)).sum::<u64>();
        if root.length != promised || root.length > LARGEST_ROOT {
            return Err(corrupt("its frames do not make up its length".into()));
        }
        let mut value = Vec::with_capacity(root.length as usize);
        for frames in root.frames.chunks(16) {
            let wanted: Vec<Wanted> = frames.iter().map(|at| Wanted { at: *at, hash: None }).collect();
            for frame in self.frames(&wanted).await? {
                let frame = frame.map_err(|bad| corrupt(bad.describe(&self.deployment)))?;
                value.extend_from_slice(&frame);
            }
        }
        let hash = self.deployment.key().root_hash();
        let (value, found) = blocking(move || {
            let found = hash.hash256(&value);
            Ok((value, found))
        })
        .await?;
        if equal(&root.hash, &found) {
            Ok(value)
        } else {
            Err(corrupt("its hash does not match".into()))
        }
    }
}

fn bad(want: &Wanted, reason: String) -> BadFrame {
    BadFrame {
        pack: want.at.pack,
        kind: want.at.kind,
        frame: want.at.number,
        pack_missing: false,
        reason,
    }
}

impl BadFrame {
    /// One line with the object and the frame.
    pub(super) fn describe(&self, deployment: &Deployment) -> String {
        format!(
            "{}: frame {}: {}",
            fetch::object(deployment, self.pack),
            self.frame,
            self.reason
        )
    }
}
