//! A section of an earlier backup, as workers compare with it.

use std::sync::Arc;

use hardstorage_report::Result;

use super::ancestor::AncestorPacks;
use crate::PackId;
use crate::layer::{PageFacts, PageMap, PagePlace};
use crate::table::{LayerRefs, PackRecord};

/// What an earlier backup knows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or other bytes.
    Other,
    /// These bytes, at a place that must or should not be referred to any more.
    SameButUnusable,
    /// These bytes.
    Same,
}

/// A section of an earlier backup.
#[derive(Debug)]
pub(super) struct AncestorSection {
    pub(super) map: PageMap,
    /// Its layers; places in them refer to the ancestor's pack list.
    pub(super) layers: Vec<LayerRefs>,
    pub(super) packs: Arc<AncestorPacks>,
    /// Whether its layers lie in frames of their own.
    pub(super) in_frames: bool,
    /// Pages that the layers above the base cover.
    pub(super) delta_pages: u64,
    /// Whether its layers should be written anew although nothing changed.
    pub(super) rewrite: bool,
    /// For each frame of the map whether its pages may be taken over.
    pub(super) usable: Vec<bool>,
}

impl AncestorSection {
    /// Whether this very page is stored, and where it may be referred to.
    pub(super) fn find(&self, page: u32, length: usize, facts: PageFacts) -> Found {
        let Some(PagePlace::Stored { frame, .. }) = self.map.place(page) else {
            return Found::Other;
        };
        if self.map.page_len(page) as usize != length || self.map.facts(page) != Some(facts) {
            Found::Other
        } else if self.usable.get(frame as usize) == Some(&true) {
            Found::Same
        } else {
            Found::SameButUnusable
        }
    }

    /// The pack that holds a page.
    pub(super) fn pack_of(&self, page: u32) -> Option<PackId> {
        let Some(PagePlace::Stored { frame, .. }) = self.map.place(page) else {
            return None;
        };
        let frame = self.map.frames().get(frame as usize)?;
        self.map.packs().get(frame.at.pack as usize).copied()
    }

    /// The pack that a frame of its layers lies in.
    pub(super) fn meta_pack(&self, number: u32) -> Result<&PackRecord> {
        self.packs.by_number(number)
    }

    /// What it holds of memory, roughly.
    pub(super) fn weight(&self) -> usize {
        self.map.pages() as usize * 24 + self.map.frames().len() * 56
    }
}
