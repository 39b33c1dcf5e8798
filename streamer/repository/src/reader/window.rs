//! A window: some files whose bytes are fetched together, so that each frame is read and decoded once for all of them.
//!
//! A piece is a run of bytes that lies in one frame without a gap, so it is one write. Every list here is bounded by
//! [`WindowLimits`]; a window holds no file content.

use std::ops::Range;
use std::sync::Arc;

use super::file::{FilePart, OpenFile};
use super::ranges::Place;
use crate::PackId;
use crate::pack::FramePos;

/// How much one window may hold; two or three windows exist at a time.
#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    /// Files that consist of more than one piece: all of them may be open at the same time.
    pub wide_files: usize,
    /// Files of any kind.
    pub files: usize,
    /// Pieces of all files, about 200 bytes of memory each. One GiB of one file may exceed it by itself.
    pub pieces: usize,
}

impl WindowLimits {
    /// 64 segments of a relation, 32 GiB in frames of the usual size. Two segments of which every page lies elsewhere just do
    /// not fit; two of which half was changed do, so that threads need not all write one file.
    pub const LARGE: WindowLimits = WindowLimits {
        wide_files: 64,
        files: 64,
        pieces: 128_000,
    };
    /// Files that share frames with others.
    pub const SMALL: WindowLimits = WindowLimits {
        wide_files: 256,
        files: 4096,
        pieces: 20_000,
    };
}

/// A run of bytes of one file in one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) file: u32,
    /// Which piece of that file.
    pub(super) piece: u32,
    /// Where it goes in the file.
    pub(super) offset: u64,
    /// Where it lies in the frame's raw bytes.
    pub(super) frame_at: u32,
    pub(super) length: u32,
}

/// A frame that the window needs. `pos.pack` is an index into the window's packs.
#[derive(Debug, Clone)]
pub(super) struct FrameUse {
    pub(super) pos: FramePos,
    pub(super) extents: Range<u32>,
}

/// Files and the frames that they need, in the order in which the frames lie in their packs.
#[derive(Debug)]
pub(super) struct Window<H> {
    pub(super) files: Vec<FilePart<H>>,
    pub(super) frames: Vec<FrameUse>,
    pub(super) extents: Vec<Extent>,
    pub(super) packs: Vec<PackId>,
    /// Files that need no frame.
    pub(super) bare: Vec<u32>,
}

impl<H> Window<H> {
    /// Where the frames lie, for [`super::ranges::merge`].
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.frames.iter().map(|frame| Place {
            pack: frame.pos.pack,
            offset: frame.pos.offset,
            length: frame.pos.end() - frame.pos.offset,
        })
    }

    /// The pieces that lie in a frame.
    pub(super) fn extents_of(&self, frame: usize) -> &[Extent] {
        self.frames
            .get(frame)
            .and_then(|frame| {
                self.extents
                    .get(frame.extents.start as usize..frame.extents.end as usize)
            })
            .unwrap_or_default()
    }

    /// The first file that has a piece in a frame.
    pub(super) fn first_file(&self, frame: usize) -> Option<&Arc<OpenFile<H>>> {
        let extent = self.extents_of(frame).first()?;
        Some(&self.files.get(extent.file as usize)?.file)
    }

    /// The raw bytes of these frames.
    pub(super) fn raw_len(&self, frames: Range<usize>) -> u64 {
        let frames = self.frames.get(frames).unwrap_or_default();
        frames.iter().map(|frame| u64::from(frame.pos.raw_len)).sum()
    }

    /// The pack of a frame.
    pub(super) fn pack_of(&self, frame: &FramePos) -> Option<PackId> {
        self.packs.get(frame.pack as usize).copied()
    }
}
