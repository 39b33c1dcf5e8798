//! A window: some files whose bytes are fetched together, so that each frame is read and decoded once for all of them.
//!
//! The builder takes the pieces of each file in file order and turns them around: for each frame, which pieces of which
//! files lie in it. A piece is a run of bytes that lies in one frame without a gap, so it is one write. Every list here
//! is bounded by [`Limits`]; a window holds no file content.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use hardstorage_report::{Error, Result, code};

use super::checksum::Combiner;
use super::file::{FilePart, OpenFile, Piece};
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
    /// 64 segments of a relation, 16 GiB in frames of the usual size.
    pub const LARGE: WindowLimits = WindowLimits {
        wide_files: 64,
        files: 64,
        pieces: 64_000,
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

    /// The pack of a frame.
    pub(super) fn pack_of(&self, frame: &FramePos) -> Option<PackId> {
        self.packs.get(frame.pack as usize).copied()
    }
}

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
    pieces: Vec<Piece>,
    end: u64,
    in_frames: u32,
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
            pieces: Vec::new(),
            end: offset,
            in_frames: 0,
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
            pieces: part.pieces,
            left: AtomicU32::new(part.in_frames),
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::WriterId;
    use crate::pack::Codec;
    use crate::reader::sink::FileInfo;
    use crate::table::EntryKey;

    fn pack(number: u8) -> PackId {
        PackId {
            writer: WriterId::new([number; 16]),
            sequence: 0,
        }
    }

    fn pos(number: u32) -> FramePos {
        FramePos {
            pack: 9,
            number,
            offset: 64 + u64::from(number) * 1000,
            stored_len: 900,
            raw_len: 4 * 8192,
            codec: Codec::Zstd,
            hash: [number as u8; 16],
        }
    }

    fn file(size: u64) -> Arc<OpenFile<()>> {
        OpenFile::new(Arc::new(FileInfo {
            key: EntryKey {
                tablespace: 0,
                path: b"f".to_vec(),
            },
            mode: 0,
            mtime: 0,
            size,
            crc32c: 0,
        }))
    }

    #[test]
    fn frames_come_in_pack_order_with_the_pieces_of_all_files() {
        let mut builder = WindowBuilder::new(WindowLimits::LARGE);
        builder.part(file(4 * 8192), 0, 0);
        builder.piece(pack(2), &pos(5), 0, 8192).unwrap();
        builder.piece(pack(2), &pos(5), 8192, 8192).unwrap();
        builder.zeros(8192);
        builder.piece(pack(1), &pos(7), 8192, 8192).unwrap();
        builder.part(file(8192), 0, 0);
        builder.piece(pack(2), &pos(5), 3 * 8192, 8192).unwrap();
        builder.part(file(0), 0, 0);
        let window = builder.finish();
        let numbers: Vec<u32> = window.frames.iter().map(|frame| frame.pos.number).collect();
        assert_eq!(numbers, [7, 5]);
        let extents: Vec<_> = window
            .extents_of(1)
            .iter()
            .map(|e| (e.file, e.offset, e.frame_at, e.length))
            .collect();
        assert_eq!(
            extents,
            [(0, 0, 0, 16384), (1, 0, 3 * 8192, 8192)],
            "neighbours are one write"
        );
        let after_zeros = window.extents_of(0)[0];
        assert_eq!((after_zeros.offset, after_zeros.piece), (3 * 8192, 2));
        assert_eq!(
            window.files[0].zeros,
            vec![std::ops::Range {
                start: 2 * 8192,
                end: 3 * 8192
            }]
        );
        assert_eq!(window.bare, [2]);
        assert_eq!(window.pack_of(&window.frames[0].pos), Some(pack(1)));
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let mut builder = WindowBuilder::new(WindowLimits::LARGE);
        builder.part(file(8192), 0, 0);
        builder.piece(pack(1), &pos(0), 0, 8192).unwrap();
        let elsewhere = FramePos { offset: 65, ..pos(0) };
        assert!(builder.piece(pack(1), &elsewhere, 0, 8192).is_err());
        assert!(
            builder.piece(pack(1), &pos(0), 4 * 8192, 1).is_err(),
            "behind the end of the frame"
        );
        assert!(builder.piece(pack(1), &pos(0), u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn a_window_is_full_by_any_of_its_limits() {
        let limits = WindowLimits {
            wide_files: 1,
            files: 3,
            pieces: 4,
        };
        let mut builder = WindowBuilder::new(limits);
        for _ in 0..2 {
            builder.part(file(8192), 0, 0);
            builder.piece(pack(1), &pos(0), 0, 8192).unwrap();
        }
        assert!(!builder.is_full());
        builder.piece(pack(1), &pos(1), 0, 8192).unwrap();
        assert!(builder.is_full(), "a wide file");
        let mut builder = WindowBuilder::new(limits);
        for _ in 0..3 {
            assert!(!builder.is_full());
            builder.part(file(0), 0, 0);
        }
        assert!(builder.is_full(), "three files");
    }
}
