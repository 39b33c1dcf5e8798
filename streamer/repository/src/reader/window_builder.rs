//! Gathers a window: takes the pieces of each file in file order and turns them around, so that for each frame it is
//! known which pieces of which files lie in it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use hardstorage_report::{Error, Result, code};

use super::checksum::Combiner;
use super::file::{FilePart, OpenFile, Piece};
use super::window::{Extent, FrameUse, Window, WindowLimits};
use crate::PackId;
use crate::pack::FramePos;

/// Gathers a window.
#[derive(Debug)]
pub(super) struct WindowBuilder<H> {
    limits: WindowLimits,
    files: Vec<Pending<H>>,
    frames: Vec<FramePos>,
    known: HashMap<(u32, u32), u32>,
    packs: Vec<PackId>,
    pack_index: HashMap<PackId, u32>,
    /// The frame of each extent, beside `extents`.
    frame_of: Vec<u32>,
    extents: Vec<Extent>,
    wide: usize,
    combiner: Combiner,
}

#[derive(Debug)]
struct Pending<H> {
    file: Arc<OpenFile<H>>,
    number: usize,
    zeros: Vec<Range<u64>>,
    stored: Vec<Range<u64>>,
    pieces: Vec<Piece>,
    end: u64,
    in_frames: u32,
    kept: u64,
}

impl<H> WindowBuilder<H> {
    /// An empty window.
    pub(super) fn new(limits: WindowLimits) -> WindowBuilder<H> {
        WindowBuilder {
            limits,
            files: Vec::new(),
            frames: Vec::new(),
            known: HashMap::new(),
            packs: Vec::new(),
            pack_index: HashMap::new(),
            frame_of: Vec::new(),
            extents: Vec::new(),
            wide: 0,
            combiner: Combiner::default(),
        }
    }

    /// Whether the window should be closed.
    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= self.limits.files
            || self.wide >= self.limits.wide_files
            || self.extents.len() >= self.limits.pieces
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Begins a part of a file, which goes on at `offset`; its pieces follow.
    pub(super) fn part(&mut self, file: Arc<OpenFile<H>>, number: usize, offset: u64) {
        self.files.push(Pending {
            file,
            number,
            zeros: Vec::new(),
            stored: Vec::new(),
            pieces: Vec::new(),
            end: offset,
            in_frames: 0,
            kept: 0,
        });
    }

    /// The next bytes of the part last begun lie at this offset in the file.
    pub(super) fn seek(&mut self, offset: u64) {
        if let Some(part) = self.files.last_mut() {
            part.end = offset;
        }
    }

    /// The file of the part last begun goes on in another window.
    pub(super) fn goes_on(&mut self) {
        if let Some(part) = self.files.last() {
            part.file.expect_another();
        }
    }

    /// The next bytes of the part last begun are zeros.
    pub(super) fn zeros(&mut self, length: u64) {
        let Some(file) = self.files.last_mut() else { return };
        if length == 0 {
            return;
        }
        match file.zeros.last_mut() {
            Some(last) if last.end == file.end => last.end += length,
            _ => file.zeros.push(file.end..file.end + length),
        }
        file.end += length;
        file.pieces.push(Piece {
            length,
            crc: AtomicU32::new(self.combiner.zeros(length)),
        });
    }

    /// The next bytes of the part last begun are there already.
    pub(super) fn kept(&mut self, length: u32, crc: u32) {
        let Some(file) = self.files.last_mut() else { return };
        file.end += u64::from(length);
        file.kept += u64::from(length);
        file.pieces.push(Piece {
            length: u64::from(length),
            crc: AtomicU32::new(crc),
        });
    }

    /// The next bytes of the part last begun lie in a frame.
    pub(super) fn piece(&mut self, pack: PackId, pos: &FramePos, frame_at: u32, length: u32) -> Result<()> {
        let frame = self.frame(pack, pos)?;
        if u64::from(frame_at) + u64::from(length) > u64::from(pos.raw_len) {
            return Err(damaged("it points behind the end of a frame"));
        }
        let number = (self.files.len() as u32).wrapping_sub(1);
        let Some(file) = self.files.last_mut() else {
            return Ok(());
        };
        if length == 0 {
            return Ok(());
        }
        let offset = file.end;
        file.end += u64::from(length);
        match file.stored.last_mut() {
            Some(last) if last.end == offset => last.end = file.end,
            _ => file.stored.push(offset..file.end),
        }
        let newest = file.pieces.len().checked_sub(1);
        if let (Some(last), Some(last_frame), Some(newest)) = (self.extents.last_mut(), self.frame_of.last(), newest) {
            let goes_on = *last_frame == frame
                && last.file == number
                && last.piece as usize == newest
                && last.frame_at + last.length == frame_at
                && last.offset + u64::from(last.length) == offset;
            if let Some(piece) = file.pieces.get_mut(newest).filter(|_| goes_on) {
                last.length += length;
                piece.length += u64::from(length);
                return Ok(());
            }
        }
        self.extents.push(Extent {
            file: number,
            piece: file.pieces.len() as u32,
            offset,
            frame_at,
            length,
        });
        self.frame_of.push(frame);
        file.pieces.push(Piece {
            length: u64::from(length),
            crc: AtomicU32::new(0),
        });
        file.in_frames += 1;
        if file.in_frames == 2 {
            self.wide += 1;
        }
        Ok(())
    }

    fn frame(&mut self, pack: PackId, pos: &FramePos) -> Result<u32> {
        let next = self.packs.len() as u32;
        let pack = match self.pack_index.entry(pack) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.packs.push(pack);
                *new.insert(next)
            }
        };
        let pos = FramePos { pack, ..*pos };
        match self.known.entry((pack, pos.number)) {
            Entry::Occupied(known) => {
                let frame = *known.get();
                if self.frames.get(frame as usize) == Some(&pos) {
                    Ok(frame)
                } else {
                    Err(damaged("two places of one frame differ"))
                }
            }
            Entry::Vacant(new) => {
                self.frames.push(pos);
                Ok(*new.insert(self.frames.len() as u32 - 1))
            }
        }
    }

    /// Turns the window around: frames in pack order, each with its extents.
    pub(super) fn finish(self) -> Window<H> {
        // Packs in order of their names keep one writer's packs together, in the order in which they were filled.
        let mut order: Vec<u32> = (0..self.frames.len() as u32).collect();
        let place = |index: &u32| {
            let pos = self.frames.get(*index as usize);
            pos.and_then(|pos| Some((*self.packs.get(pos.pack as usize)?, pos.offset)))
        };
        order.sort_unstable_by_key(place);
        let mut rank = vec![0u32; order.len()];
        for (at, frame) in order.iter().enumerate() {
            if let Some(slot) = rank.get_mut(*frame as usize) {
                *slot = at as u32;
            }
        }
        // Extents were gathered in file order, which a stable sort keeps within each frame.
        let rank_of = |frame: u32| rank.get(frame as usize).copied().unwrap_or(u32::MAX);
        let mut placed: Vec<(u32, Extent)> = self
            .frame_of
            .iter()
            .map(|frame| rank_of(*frame))
            .zip(self.extents)
            .collect();
        placed.sort_by_key(|(frame, _)| *frame);

        let mut frames: Vec<FrameUse> = order
            .iter()
            .filter_map(|frame| self.frames.get(*frame as usize))
            .map(|pos| FrameUse {
                pos: *pos,
                extents: 0..0,
            })
            .collect();
        for (at, (frame, _)) in placed.iter().enumerate() {
            if let Some(frame) = frames.get_mut(*frame as usize) {
                if frame.extents.is_empty() {
                    frame.extents.start = at as u32;
                }
                frame.extents.end = at as u32 + 1;
            }
        }
        let bare = (0u32..).zip(&self.files).filter(|(_, file)| file.in_frames == 0);
        let bare = bare.map(|(index, _)| index).collect();
        let files = self.files.into_iter().map(|part| FilePart {
            file: part.file,
            number: part.number,
            zeros: part.zeros,
            stored: part.stored,
            begun: AtomicBool::new(false),
            pieces: part.pieces,
            left: AtomicU32::new(part.in_frames),
            kept: part.kept,
        });
        Window {
            files: files.collect(),
            frames,
            extents: placed.into_iter().map(|(_, extent)| extent).collect(),
            packs: self.packs,
            bare,
        }
    }
}

fn damaged(problem: &str) -> Error {
    Error::new(
        code::repository::OBJECT_CORRUPT,
        format!("damaged map of a file: {problem}"),
    )
}

#[cfg(test)]
#[path = "window_builder_tests.rs"]
mod tests;
