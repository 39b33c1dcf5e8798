//! A resolved stack: for every page of a section the newest place, and what the page hashes to.

use std::collections::HashMap;

use hardstorage_report::{Error, Result, code};

use super::{LayerMap, MapFrame, PageFacts, page_count, page_len};
use crate::PackId;

/// A page's place in a [`PageMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePlace {
    /// It is all zeros, and stored nowhere.
    Zeros,
    /// It is stored.
    Stored {
        /// Index of the frame in [`PageMap::frames`].
        frame: u32,
        /// Offset in the frame's raw bytes.
        offset: u32,
    },
}

/// Pages that follow each other in the section and where they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// The first page, counted from the start of the section.
    pub first: u32,
    /// How many.
    pub pages: u32,
    /// Their bytes together.
    pub bytes: u32,
    /// Where the first one lies.
    pub place: PagePlace,
}

const ZEROS: u32 = u32::MAX;
const NOWHERE: u32 = u32::MAX - 1;

/// A section as its stack of layers describes it.
#[derive(Debug, Clone, Default)]
pub struct PageMap {
    block_size: u32,
    length: u64,
    packs: Vec<PackId>,
    frames: Vec<MapFrame>,
    places: Vec<(u32, u32)>,
    facts: Vec<PageFacts>,
}

fn wrong(problem: &str) -> Error {
    Error::new(
        code::repository::OBJECT_CORRUPT,
        format!("damaged stack of layers: {problem}"),
    )
}

impl PageMap {
    /// Resolves a stack, oldest layer first. Columns come with all layers or with none.
    pub fn resolve(layers: &[(LayerMap, Option<Vec<PageFacts>>)]) -> Result<PageMap> {
        let (bottom, _) = layers.first().ok_or_else(|| wrong("it is empty"))?;
        if !bottom.base || layers[1..].iter().any(|(layer, _)| layer.base) {
            return Err(wrong("the base is not at the bottom"));
        }
        let mut map = PageMap {
            block_size: bottom.block_size,
            ..PageMap::default()
        };
        let mut packs = HashMap::new();
        for (layer, column) in layers {
            if layer.block_size != map.block_size {
                return Err(wrong("its layers differ in block size"));
            }
            map.set_length(layer.length);
            map.cover(layer, column.as_deref(), &mut packs)?;
        }
        if map.places.iter().any(|(frame, _)| *frame == NOWHERE) {
            return Err(wrong("it does not cover every page"));
        }
        Ok(map)
    }

    fn set_length(&mut self, length: u64) {
        let before = self.length;
        let pages = page_count(length, self.block_size);
        // The page in which either end falls is the same page only if it has the same extent.
        for end in [before, length] {
            let page = (end / u64::from(self.block_size)) as u32;
            let extents = [before, length].map(|length| page_len(length, self.block_size, page));
            if let Some(place) = self.places.get_mut(page as usize).filter(|_| extents[0] != extents[1]) {
                *place = (NOWHERE, 0);
            }
        }
        self.length = length;
        self.places.resize(pages as usize, (NOWHERE, 0));
        self.facts.resize(pages as usize, PageFacts::default());
    }

    fn cover(
        &mut self,
        layer: &LayerMap,
        column: Option<&[PageFacts]>,
        packs: &mut HashMap<PackId, u32>,
    ) -> Result<()> {
        let first_frame = self.frames.len() as u32;
        for frame in &layer.frames {
            let id = layer.packs.get(frame.at.pack as usize);
            let id = *id.ok_or_else(|| wrong("a frame lies in no pack"))?;
            let next = self.packs.len() as u32;
            let pack = *packs.entry(id).or_insert(next);
            if pack == next {
                self.packs.push(id);
            }
            let mut frame = *frame;
            frame.at.pack = pack;
            self.frames.push(frame);
        }
        let mut facts = column.map(<[PageFacts]>::iter);
        for run in &layer.runs {
            let pages = run.first as usize..run.first as usize + run.pages as usize;
            let places = self.places.get_mut(pages.clone()).zip(self.facts.get_mut(pages));
            let (places, known) = places.ok_or_else(|| wrong("a run lies outside the section"))?;
            let Some((frame, offset)) = run.place else {
                places.fill((ZEROS, 0));
                known.fill(PageFacts::default());
                continue;
            };
            for (index, place) in places.iter_mut().enumerate() {
                *place = (first_frame + frame, offset + index as u32 * self.block_size);
            }
            if let Some(facts) = &mut facts {
                for known in known {
                    *known = *facts.next().ok_or_else(|| wrong("a column is too short"))?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of a page.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Bytes of the section.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many pages.
    pub fn pages(&self) -> u32 {
        self.places.len() as u32
    }

    /// The packs that [`PageMap::frames`] refer to.
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// The frames of all layers, those included whose pages were all replaced since.
    pub fn frames(&self) -> &[MapFrame] {
        &self.frames
    }

    /// Where a page lies; `None` beyond the end.
    pub fn place(&self, page: u32) -> Option<PagePlace> {
        let (frame, offset) = *self.places.get(page as usize)?;
        Some(if frame == ZEROS {
            PagePlace::Zeros
        } else {
            PagePlace::Stored { frame, offset }
        })
    }

    /// Hash and checksum of a stored page; meaningless for zeros, and when the stack was resolved without columns.
    pub fn facts(&self, page: u32) -> Option<PageFacts> {
        self.facts.get(page as usize).copied()
    }

    /// How many bytes a page has.
    pub fn page_len(&self, page: u32) -> u32 {
        page_len(self.length, self.block_size, page)
    }

    /// The pages in order, as runs that are as long as they can be.
    pub fn runs(&self) -> impl Iterator<Item = PageRun> + '_ {
        let mut next = 0u32;
        std::iter::from_fn(move || {
            let place = self.place(next)?;
            let first = next;
            let mut bytes = self.page_len(first);
            next += 1;
            loop {
                let follows = match (place, self.place(next)) {
                    (PagePlace::Zeros, Some(PagePlace::Zeros)) => true,
                    (
                        PagePlace::Stored { frame, offset },
                        Some(PagePlace::Stored {
                            frame: other,
                            offset: at,
                        }),
                    ) => frame == other && offset.checked_add(bytes) == Some(at),
                    _ => false,
                };
                if !follows {
                    break;
                }
                bytes += self.page_len(next);
                next += 1;
            }
            Some(PageRun {
                first,
                pages: next - first,
                bytes,
                place,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::map::{MapRun, SECTION_LEN};
    use super::*;
    use crate::WriterId;
    use crate::pack::{Codec, FramePos};
    use proptest::prelude::*;

    const BLOCK: u32 = 512;

    /// A model: what each page is, as (layer, extent), or zeros.
    type Model = Vec<Option<(usize, u32)>>;

    fn layer(number: usize, base: bool, length: u64, covered: &[(u32, bool)]) -> LayerMap {
        let mut map = LayerMap {
            block_size: BLOCK,
            base,
            length,
            packs: vec![PackId {
                writer: WriterId::new([number as u8; 16]),
                sequence: 0,
            }],
            frames: Vec::new(),
            runs: Vec::new(),
        };
        for (page, zero) in covered {
            let place = (!zero).then(|| {
                map.frames.push(MapFrame {
                    at: FramePos {
                        pack: 0,
                        number: number as u32,
                        offset: u64::from(*page),
                        stored_len: BLOCK,
                        raw_len: BLOCK,
                        codec: Codec::Raw,
                        hash: [0; 16],
                    },
                    pages: 1,
                });
                (map.frames.len() as u32 - 1, 0)
            });
            map.runs.push(MapRun {
                first: *page,
                pages: 1,
                place,
            });
        }
        map
    }

    proptest! {
        /// Layers that cover exactly what differs resolve to the newest state, for any sequence of lengths and edits.
        #[test]
        fn the_newest_wins(
            steps in proptest::collection::vec((0u64..20 * 512, any::<u32>(), any::<u32>()), 1..8),
        ) {
            let mut model: Model = Vec::new();
            let mut layers = Vec::new();
            for (number, (length, edit, zero)) in steps.iter().enumerate() {
                let pages = page_count(*length, BLOCK);
                let mut covered = Vec::new();
                let mut state = Model::new();
                for page in 0..pages {
                    let extent = page_len(*length, BLOCK, page);
                    let old = model.get(page as usize).copied();
                    let same = matches!(old, Some(Some((_, had))) if had == extent);
                    if number == 0 || !same || edit >> (page % 32) & 1 == 1 {
                        let zero = zero >> (page % 32) & 1 == 1;
                        covered.push((page, zero));
                        state.push((!zero).then_some((number, extent)));
                    } else {
                        state.push(old.unwrap());
                    }
                }
                model = state;
                let map = layer(number, number == 0, *length, &covered);
                let map = LayerMap::decode(&map.encode()).unwrap();
                let facts = (0..map.stored_pages()).map(|i| PageFacts { hash: u64::from(i), crc: number as u32 }).collect();
                layers.push((map, Some(facts)));
            }
            let map = PageMap::resolve(&layers).unwrap();
            prop_assert_eq!(map.pages() as usize, model.len());
            for (page, expected) in model.iter().enumerate() {
                match (map.place(page as u32).unwrap(), expected) {
                    (PagePlace::Zeros, None) => {}
                    (PagePlace::Stored { frame, offset: 0 }, Some((number, extent))) => {
                        let frame = map.frames()[frame as usize];
                        prop_assert_eq!(frame.at.number as usize, *number);
                        prop_assert_eq!(frame.at.offset, page as u64);
                        prop_assert_eq!(map.page_len(page as u32), *extent);
                        prop_assert_eq!(map.facts(page as u32).unwrap().crc as usize, *number);
                        prop_assert_eq!(map.packs()[frame.at.pack as usize].writer, WriterId::new([*number as u8; 16]));
                    }
                    (found, expected) => prop_assert!(false, "{page}: {found:?} {expected:?}"),
                }
            }
            let mut next = 0;
            for run in map.runs() {
                prop_assert_eq!(run.first, next);
                next += run.pages;
            }
            prop_assert_eq!(next, map.pages());
            prop_assert_eq!(map.runs().map(|run| u64::from(run.bytes)).sum::<u64>(), map.length());
        }
    }

    #[test]
    fn holes_are_refused() {
        let base = layer(0, true, 100, &[(0, false)]);
        let longer = layer(1, false, 200, &[]);
        assert!(PageMap::resolve(&[(base.clone(), None)]).is_ok());
        assert!(
            PageMap::resolve(&[(base.clone(), None), (longer, None)]).is_err(),
            "the short page changed its extent"
        );
        let grown = layer(1, false, 512 * 2, &[(0, false)]);
        assert!(
            PageMap::resolve(&[(base.clone(), None), (grown, None)]).is_err(),
            "page 1 is nowhere"
        );
        assert!(
            PageMap::resolve(&[(base.clone(), None), (base, None)]).is_err(),
            "two bases"
        );
        assert!(PageMap::resolve(&[]).is_err());
        assert_eq!(page_count(SECTION_LEN * 3, 8192), 131_072);
    }
}
