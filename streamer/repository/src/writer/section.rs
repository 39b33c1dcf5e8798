//! One section as it passes by: collects what became of its pages, and drafts the layer that they make.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ancestor_section::AncestorSection;
use super::batch::{Fate, Page};
use crate::PackId;
use crate::layer::{PageFacts, PagePlace, page_count, page_len};

/// Layers of a stack at most.
pub(super) const MAX_LAYERS: usize = 8;

/// Where a page of a draft lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DraftPlace {
    Zeros,
    /// In a frame of this backup: index into the section's keys.
    New(u32),
    /// In a frame of the ancestor: index into its page map's frames.
    Old(u32),
}

/// Pages that follow each other in the section and in their frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct DraftRun {
    pub(super) first: u32,
    pub(super) pages: u32,
    pub(super) place: DraftPlace,
    pub(super) offset: u32,
}

/// A layer whose new frames have no place yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) base: bool,
    pub(super) runs: Vec<DraftRun>,
    pub(super) facts: Vec<PageFacts>,
}

/// A section that has passed by.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) length: u64,
    /// It belongs to a small file, whose maps lie in its entry.
    pub(super) inline: bool,
    /// The ancestor's section, whose layers stay below the draft unless that is a base.
    pub(super) ancestor: Option<Arc<AncestorSection>>,
    /// Nothing, when the section is what the ancestor has.
    pub(super) draft: Option<Draft>,
    /// The frames of this backup that it refers to, oldest first, and how many of its pages are in each.
    pub(super) keys: Vec<(u64, u32)>,
    /// Pages that stay in packs of earlier backups.
    pub(super) old_packs: BTreeMap<PackId, u32>,
}

impl Closed {
    /// The oldest frame that it refers to.
    pub(super) fn oldest_key(&self) -> Option<u64> {
        self.keys.iter().map(|(key, _)| *key).min()
    }

    /// What it holds of memory, roughly, while it waits for the places of its frames.
    pub(super) fn weight(&self) -> usize {
        let draft = self.draft.as_ref().map_or(0, |draft| {
            draft.runs.len() * size_of::<DraftRun>() + draft.facts.len() * size_of::<PageFacts>()
        });
        draft + self.keys.len() * 16 + self.ancestor.as_ref().map_or(0, |section| section.weight()) + 256
    }
}

const ZEROS: u32 = u32::MAX;
const SAME: u32 = u32::MAX - 1;

/// The section that is passing by. Its arrays are used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Section {
    block_size: u32,
    length: u64,
    inline: bool,
    ancestor: Option<Arc<AncestorSection>>,
    /// For each page so far: an index into `keys` and an offset, or one of the marks.
    places: Vec<(u32, u32)>,
    facts: Vec<PageFacts>,
    keys: Vec<(u64, u32)>,
    /// Index of the key used last: of frames that were gathered, and of others. The two kinds alternate.
    last: [Option<u32>; 2],
}

impl Section {
    /// Starts a section of `length` bytes; `inline` for those of small files.
    pub(super) fn begin(&mut self, block_size: u32, length: u64, inline: bool, ancestor: Option<Arc<AncestorSection>>) {
        self.block_size = block_size;
        self.length = length;
        self.inline = inline;
        self.ancestor = ancestor;
        self.places.clear();
        self.facts.clear();
        self.keys.clear();
        self.last = [None; 2];
    }

    /// Takes the next page; if it is stored, in the frame that `key` names, `shift` bytes after where its batch has it.
    pub(super) fn push(&mut self, page: Page, key: u64, gathered: bool, shift: u32) {
        let place = match page.fate {
            Fate::Zeros => (ZEROS, 0),
            Fate::Same => (SAME, 0),
            Fate::Stored(offset) => {
                let last = &mut self.last[usize::from(gathered)];
                let index = last.filter(|index| self.keys[*index as usize].0 == key);
                let index = index.unwrap_or(self.keys.len() as u32);
                *last = Some(index);
                match self.keys.get_mut(index as usize) {
                    Some((_, pages)) => *pages += 1,
                    None => self.keys.push((key, 1)),
                }
                (index, offset + shift)
            }
        };
        self.places.push(place);
        self.facts.push(page.facts);
    }

    /// Whether all pages have come.
    pub(super) fn is_complete(&self) -> bool {
        self.places.len() == page_count(self.length, self.block_size) as usize
    }

    /// The oldest frame that it refers to.
    pub(super) fn oldest_key(&self) -> Option<u64> {
        self.keys.iter().map(|(key, _)| *key).min()
    }

    fn old_place(&self, page: u32) -> Option<PagePlace> {
        self.ancestor.as_ref()?.map.place(page)
    }

    /// Whether the ancestor's stack already says this of the page.
    fn is_known(&self, page: u32) -> bool {
        let (mark, _) = self.places[page as usize];
        let zeros = |section: &AncestorSection| {
            section.map.place(page) == Some(PagePlace::Zeros)
                && section.map.page_len(page) == page_len(self.length, self.block_size, page)
        };
        mark == SAME || (mark == ZEROS && self.ancestor.as_deref().is_some_and(zeros))
    }

    /// Ends it.
    pub(super) fn close(&mut self) -> Closed {
        let pages = self.places.len() as u32;
        let mut old_packs = BTreeMap::new();
        if let Some(ancestor) = &self.ancestor {
            for (page, (mark, _)) in self.places.iter().enumerate() {
                if *mark == SAME
                    && let Some(pack) = ancestor.pack_of(page as u32)
                {
                    *old_packs.entry(pack).or_default() += 1;
                }
            }
        }
        let changed = (0..pages).filter(|page| !self.is_known(*page)).count() as u32;
        let stack = self.ancestor.as_ref().filter(|section| !section.rewrite);
        let unchanged = stack.is_some_and(|section| section.map.length() == self.length && changed == 0);
        let draft = if unchanged {
            None
        } else {
            let delta = stack.is_some_and(|section| {
                !self.inline
                    && section.in_frames
                    && section.layers.len() < MAX_LAYERS
                    && (section.delta_pages + u64::from(changed)) * 2 <= u64::from(pages)
            });
            Some(self.draft(!delta))
        };
        Closed {
            length: self.length,
            inline: self.inline,
            ancestor: self.ancestor.take(),
            draft,
            keys: std::mem::take(&mut self.keys),
            old_packs,
        }
    }

    fn draft(&self, base: bool) -> Draft {
        let mut draft = Draft {
            base,
            runs: Vec::new(),
            facts: Vec::new(),
        };
        for page in 0..self.places.len() as u32 {
            if !base && self.is_known(page) {
                continue;
            }
            let (mark, offset) = self.places[page as usize];
            let (place, offset) = match mark {
                ZEROS => (DraftPlace::Zeros, 0),
                // Only a page that the ancestor stores is ever the same.
                SAME => match self.old_place(page) {
                    Some(PagePlace::Stored { frame, offset }) => (DraftPlace::Old(frame), offset),
                    _ => (DraftPlace::Zeros, 0),
                },
                key => (DraftPlace::New(key), offset),
            };
            if place != DraftPlace::Zeros {
                draft.facts.push(self.facts[page as usize]);
            }
            match draft.runs.last_mut() {
                Some(run)
                    if run.place == place
                        && run.first + run.pages == page
                        && (place == DraftPlace::Zeros || run.offset + run.pages * self.block_size == offset) =>
                {
                    run.pages += 1;
                }
                _ => draft.runs.push(DraftRun {
                    first: page,
                    pages: 1,
                    place,
                    offset,
                }),
            }
        }
        draft
    }
}
