//! The file table and the pack list: what a backup consists of.
//!
//! All numbers are little endian. Both have a root in the manifest: the frames named there hold a value, whose hash is
//! `root hash` (keyed BLAKE3, 32 bytes) over that value. Wherever a frame's place stands in these values, its pack is
//! the number of a record in the backup's pack list, from 0.
//!
//! **Pack list** (value of the root): a header of 32 bytes and records of 120 bytes.
//!
//! ```text
//!    0  8  magic "HSPACKS" 01
//!    8  4  number of records
//!   12  4  zero
//!   16  8  pages that were new or changed in this backup
//!   24  8  zero
//! record
//!    0 16  writer id
//!   16  4  sequence
//!   20  1  kind: 1 data, 2 meta
//!   21  3  zero
//!   24  8  length of the pack; 0 for the pack that holds this list (its length is not known when the list is written,
//!          nor are its hashes and counts: all zero)
//!   32 32  directory hash: BLAKE3 of the directory's stored bytes
//!   64 32  digest: the one in the pack's footer
//!   96  8  live: data: pages in it that this backup uses; meta: frames in it that this backup uses
//!  104  8  total: the pages (meta: frames) that were put into it
//!  112  8  locked until, seconds since 1970; 0 not locked
//! ```
//!
//! A pack may stand in the list with live 0 when the backup wrote it. Every pack that is needed stands in it once.
//!
//! **File table**: entries, one for each file, directory and symbolic link, in one or more *runs*. A run is sorted by
//! (tablespace, path) bytewise and a key is in one run only; a small backup has one run. The entries of a run lie in
//! frames of meta packs; a frame holds whole entries, one behind the other. The value of the root is the index:
//!
//! ```text
//!    0  8  magic "HSTABLE" 01
//!    8  8  number of entries
//!   16  4  number of runs
//!   20  4  zero
//! run
//!    0  8  number of entries in the run
//!    8  4  number of frames
//!   12  .  for each frame its place (44), and the key of its first entry: tablespace (4), length of the path (2), path
//! ```
//!
//! Entry:
//!
//! ```text
//!    0  4  length of what follows
//!    4  4  tablespace oid; 0 for the data directory
//!    8  8  place in the server's stream, from 0: the order in which frames were filled
//!   16  1  kind: 1 file, 2 directory, 3 symbolic link
//!   17  3  zero
//!   20  4  mode, the permission bits
//!   24  8  modification time, seconds since 1970, signed
//!   32  2  length of the path, and the path: bytes, relative to the tablespace
//! kind 3:
//!    .  2  length of the target, and the target
//! kind 1:
//!    .  8  size
//!    .  4  CRC32C of the whole file
//!    .  4  block size
//!    .  4  number of packs used; each: pack (4), live pages (meta: frames) of this file in it (4)
//!    .  4  number of sections (see layers); each: number of layers (4), oldest first; each layer: map, column
//! ```
//!
//! A map or column is a value that lies in the entry or in frames of meta packs:
//!
//! ```text
//!    0  1  0 = here, 1 = in frames
//!    1  4  length in bytes, or number of frames
//!    5  .  the bytes, or the places of the frames (44 each) whose raw bytes in order are the value
//! ```
//!
//! Files up to 1 MiB have their maps and columns here, larger ones in frames.

mod entry;
mod index;
mod pack_list;

pub use entry::{Entry, EntryKey, EntryKind, FileEntry, LayerRefs, PackUse, Value};
pub use index::{TableFrame, TableIndex, TableRun};
pub use pack_list::{PackList, PackRecord};
