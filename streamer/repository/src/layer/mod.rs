//! Map layers: where the pages of a section of a file lie, and what they hash to.
//!
//! A *section* is 1 GiB of a file (the last one is shorter), which for PostgreSQL's default is one relation segment;
//! its pages are counted from its own start. A section has a stack of 1 to 8 layers, oldest first. Each layer states the
//! section's length at its time and covers some pages; a base layer covers all of them and stands only at the bottom.
//! To resolve a stack, go through it from the oldest:
//!
//! 1. set the length; forget every page that lies beyond it, and the page in which the old or the new length falls
//!    unless that page keeps its extent;
//! 2. for every page that the layer covers, take its place from this layer.
//!
//! At the end every page of the section has a place. The last page of a section may be short.
//!
//! All numbers are little endian. A layer consists of two values, the **map**:
//!
//! ```text
//!    0  4  magic "HSLM"
//!    4  2  version, 1
//!    6  2  flags: bit 0 = base, covers every page
//!    8  4  block size: a power of two, 512 to 65536
//!   12  4  zero
//!   16  8  length of the section in bytes, at most 1 GiB
//!   24  4  number of packs
//!   28  4  number of frames
//!   32  4  number of runs
//!   36  4  number of pages in the column
//!   40  .  packs, 20 bytes each: writer id (16), sequence (4); all are of kind data
//!    .  .  frames, 48 bytes each: the frame's place (44, see packs; its pack is an index into the list above),
//!          and how many pages of this section were put into that frame when it was written (4)
//!    .  .  runs, 16 bytes each, sorted, without overlap: first page (4), number of pages (4), index of the frame or
//!          FFFFFFFF for pages of zeros (4), offset of the first page in the frame's raw bytes (4, zeros: 0);
//!          the pages of a run lie in the frame one behind the other
//! ```
//!
//! and the **column**, 12 bytes for every page of the runs that are not zeros, in order: the page hash (8: keyed BLAKE3
//! with the `page hash` key, its first 8 bytes) and the CRC32C (4) of the page's bytes. A restore does not need it.

mod column;
mod map;
mod stack;

pub use column::{COLUMN_ENTRY_LEN, PageFacts, decode_column, encode_column};
pub use map::{LayerMap, MapFrame, MapRun, SECTION_LEN, page_count, page_len};
pub use stack::{PageMap, PagePlace, PageRun};
