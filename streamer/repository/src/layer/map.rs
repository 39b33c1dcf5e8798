//! The map of one layer, encoded and decoded.

use hardstorage_report::Result;

use crate::pack::{FRAME_POS_LEN, Fields, FramePos};
use crate::{PackId, WriterId};

/// Bytes of a file that one stack of layers describes.
pub const SECTION_LEN: u64 = 1 << 30;

const MAGIC: [u8; 4] = *b"HSLM";
const VERSION: u16 = 1;
const FLAG_BASE: u16 = 1;
const PACK_LEN: usize = 20;
const FRAME_LEN: usize = FRAME_POS_LEN + 4;
const RUN_LEN: usize = 16;
const ZEROS: u32 = u32::MAX;

/// How many pages a section of this length has.
pub fn page_count(length: u64, block_size: u32) -> u32 {
    length.min(SECTION_LEN).div_ceil(u64::from(block_size)) as u32
}

/// How many bytes page `page` has in a section of this length: all but the last are whole, beyond it there is nothing.
pub fn page_len(length: u64, block_size: u32, page: u32) -> u32 {
    let start = u64::from(page) * u64::from(block_size);
    length.saturating_sub(start).min(u64::from(block_size)) as u32
}

/// A frame as a layer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapFrame {
    /// Where it lies; its pack is an index into the map's packs.
    pub at: FramePos,
    /// How many pages of this section were put into it when it was written.
    pub pages: u32,
}

/// Pages that follow each other in the section and in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRun {
    /// The first page, counted from the start of the section.
    pub first: u32,
    /// How many.
    pub pages: u32,
    /// The frame's index in the map and the first page's offset in its raw bytes; `None` for zeros.
    pub place: Option<(u32, u32)>,
}

/// The map of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMap {
    /// Bytes of a page.
    pub block_size: u32,
    /// Whether it covers every page.
    pub base: bool,
    /// The section's length at the time of this layer.
    pub length: u64,
    /// The data packs that it points into.
    pub packs: Vec<PackId>,
    /// The frames.
    pub frames: Vec<MapFrame>,
    /// The pages that it covers.
    pub runs: Vec<MapRun>,
}

impl LayerMap {
    /// How many pages its column describes: those that are stored.
    pub fn stored_pages(&self) -> u32 {
        let stored = self.runs.iter().filter(|run| run.place.is_some());
        stored.map(|run| run.pages).sum()
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let length = 40 + self.packs.len() * PACK_LEN + self.frames.len() * FRAME_LEN + self.runs.len() * RUN_LEN;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::from(self.base).to_le_bytes());
        out.extend_from_slice(&self.block_size.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.length.to_le_bytes());
        for count in [self.packs.len(), self.frames.len(), self.runs.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        out.extend_from_slice(&self.stored_pages().to_le_bytes());
        for pack in &self.packs {
            out.extend_from_slice(pack.writer.bytes());
            out.extend_from_slice(&pack.sequence.to_le_bytes());
        }
        for frame in &self.frames {
            frame.at.encode(&mut out);
            out.extend_from_slice(&frame.pages.to_le_bytes());
        }
        for run in &self.runs {
            let (frame, offset) = run.place.unwrap_or((ZEROS, 0));
            for number in [run.first, run.pages, frame, offset] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }

    /// Reads the stored form. On return every index, length and offset in it has been checked.
    pub fn decode(bytes: &[u8]) -> Result<LayerMap> {
        let mut fields = Fields::new("layer map", bytes);
        if fields.array()? != MAGIC {
            return Err(fields.wrong("it does not begin like one"));
        }
        let (version, flags) = (fields.u16()?, fields.u16()?);
        if version != VERSION || flags & !FLAG_BASE != 0 {
            return Err(fields.wrong("unknown version or flags"));
        }
        let block_size = fields.u32()?;
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return Err(fields.wrong("impossible block size"));
        }
        fields.zeros(4)?;
        let length = fields.u64()?;
        if length > SECTION_LEN {
            return Err(fields.wrong("longer than a section"));
        }
        let counts: [usize; 4] = [
            fields.u32()? as usize,
            fields.u32()? as usize,
            fields.u32()? as usize,
            fields.u32()? as usize,
        ];
        let [packs, frames, runs, stored_pages] = counts;
        if packs * PACK_LEN + frames * FRAME_LEN + runs * RUN_LEN != fields.left() {
            return Err(fields.wrong("its counts do not match its length"));
        }
        let packs = (0..packs)
            .map(|_| {
                Ok(PackId {
                    writer: WriterId::new(fields.array()?),
                    sequence: fields.u32()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut map = LayerMap {
            block_size,
            base: flags & FLAG_BASE != 0,
            length,
            frames: Vec::with_capacity(frames),
            runs: Vec::with_capacity(runs),
            packs,
        };
        for _ in 0..frames {
            let at = FramePos::decode(&mut fields)?;
            if at.pack as usize >= map.packs.len() {
                return Err(fields.wrong("a frame lies in a pack that it does not name"));
            }
            let pages = fields.u32()?;
            map.frames.push(MapFrame { at, pages });
        }
        let pages = page_count(length, block_size);
        let mut next = 0;
        for _ in 0..runs {
            let (first, count, frame, offset) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
            if first < next || (map.base && first != next) || count == 0 || count > pages.saturating_sub(first) {
                return Err(fields.wrong("a run covers pages that it should not"));
            }
            next = first + count;
            let place = if frame == ZEROS {
                None
            } else {
                let bytes = u64::from(count - 1) * u64::from(block_size)
                    + u64::from(page_len(length, block_size, next - 1))
                    + u64::from(offset);
                match map.frames.get(frame as usize) {
                    Some(frame) if bytes <= u64::from(frame.at.raw_len) => {}
                    _ => return Err(fields.wrong("a run lies outside its frame")),
                }
                Some((frame, offset))
            };
            map.runs.push(MapRun {
                first,
                pages: count,
                place,
            });
        }
        if map.base && next != pages {
            return Err(fields.wrong("a base does not cover every page"));
        }
        if map.stored_pages() as usize != stored_pages {
            return Err(fields.wrong("its column has another length than its runs"));
        }
        fields.end()?;
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Codec;
    use proptest::prelude::*;

    fn frame(pack: u32, number: u32, raw_len: u32) -> MapFrame {
        MapFrame {
            at: FramePos {
                pack,
                number,
                offset: 64,
                stored_len: raw_len + 16,
                raw_len,
                codec: Codec::Raw,
                hash: [number as u8; 16],
            },
            pages: raw_len / 8192,
        }
    }

    fn sample() -> LayerMap {
        LayerMap {
            block_size: 8192,
            base: true,
            length: 5 * 8192 + 100,
            packs: vec![PackId {
                writer: WriterId::new([3; 16]),
                sequence: 9,
            }],
            frames: vec![frame(0, 0, 3 * 8192), frame(0, 4, 8192 + 100)],
            runs: vec![
                MapRun {
                    first: 0,
                    pages: 3,
                    place: Some((0, 0)),
                },
                MapRun {
                    first: 3,
                    pages: 1,
                    place: None,
                },
                MapRun {
                    first: 4,
                    pages: 2,
                    place: Some((1, 0)),
                },
            ],
        }
    }

    #[test]
    fn round_trip_and_refusals() {
        let map = sample();
        assert_eq!(LayerMap::decode(&map.encode()).unwrap(), map);
        assert_eq!(map.stored_pages(), 5);
        let refuse = |change: fn(&mut LayerMap)| {
            let mut map = sample();
            change(&mut map);
            assert!(LayerMap::decode(&map.encode()).is_err(), "{map:?}");
        };
        refuse(|map| map.runs[2].place = Some((1, 1)));
        refuse(|map| map.runs[2].place = Some((2, 0)));
        refuse(|map| map.runs[1].pages = 2);
        refuse(|map| map.runs.truncate(2));
        refuse(|map| map.runs[2].pages = 3);
        refuse(|map| map.frames[0].at.pack = 1);
        refuse(|map| map.block_size = 8191);
        refuse(|map| map.length = SECTION_LEN + 1);
        refuse(|map| map.runs.swap(0, 2));
    }

    proptest! {
        #[test]
        fn damaged_maps_are_answered(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample().encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = LayerMap::decode(&bytes);
            prop_assert!(LayerMap::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
