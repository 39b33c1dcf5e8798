//! Packs: immutable objects of about 64 MiB that hold frames.
//!
//! All numbers are little endian. A pack is, without gaps:
//!
//! ```text
//! header   64 bytes, clear
//!    0  8  magic "HSPACK" 00 01
//!    8  2  version, 1
//!   10  1  kind: 1 data, 2 meta
//!   11  1  flags: bit 0 = frames and directory are sealed
//!   12  4  sequence
//!   16 16  data key id
//!   32 16  writer id
//!   48 16  zero
//! frames, numbered from 0; each is
//!    0  3  magic "HSF"          \
//!    3  1  codec: 0 raw, 1 zstd  |  16 bytes, clear,
//!    4  4  number                |  authenticated as associated data
//!    8  4  stored length         |
//!   12  4  raw length           /
//!   16  .  stored length bytes: the payload; sealed, they end with the 16-byte tag
//! directory, sealed with nonce 0; plain it is one entry of 40 bytes for each frame
//!    0  8  offset of the frame's header in the pack
//!    8  4  stored length
//!   12  4  raw length
//!   16  1  codec
//!   17  7  zero
//!   24 16  frame hash
//! footer   64 bytes, clear
//!    0  8  offset of the directory's stored bytes
//!    8  4  their length, tag included
//!   12  4  number of frames
//!   16 32  BLAKE3 of every byte of the pack before the footer
//!   48  8  zero
//!   56  8  magic "HSPACKED"
//! ```
//!
//! The *payload* of a frame is its raw bytes, or one Zstandard frame that holds them, whichever is shorter (equal:
//! raw). The *frame hash* is the keyed BLAKE3 (`frame hash` key) of the payload, its first 16 bytes: it is checked
//! before anything is decompressed, and it is a fifth of the work that hashing the raw bytes again would be.
//!
//! Sealing is AES-256-GCM. Key: `pack <kind>` for frames, `pack directory <kind>` for the directory, salted with writer
//! id and big-endian sequence (`DataKey::pack_key`, `DataKey::directory_key`). Nonce: four zero bytes, then the frame's
//! number (directory: 0) as eight big-endian bytes. Associated data, 60 bytes:
//!
//! ```text
//!    0  8  "hsframe1", for the directory "hsdirec1"
//!    8 16  data key id
//!   24 16  writer id
//!   40  4  sequence
//!   44  1  kind
//!   45  1  codec (directory: 0)
//!   46  2  zero
//!   48  4  number (directory: number of frames)
//!   52  4  stored length
//!   56  4  raw length (directory: its plain length)
//! ```
//!
//! In a repository without encryption the layout is the same, nothing is sealed and there are no tags.
//!
//! Where a frame lies is written in 44 bytes, wherever a value of this format points at one ([`FramePos`]):
//!
//! ```text
//!    0  4  pack: its place in the pack table of the value at hand
//!    4  4  number
//!    8  8  offset of the frame's header
//!   16  4  stored length
//!   20  4  raw length
//!   24  1  codec
//!   25  3  zero
//!   28 16  frame hash
//! ```

mod cipher;
mod directory;
mod fetch;
mod fields;
mod header;
mod position;

pub use cipher::{FrameReader, PackCipher};
pub use directory::{DIRECTORY_ENTRY_LEN, DirectoryEntry, decode_directory};
pub(crate) use fetch::{fetch_frames, fetch_root};
pub(crate) use fields::Fields;
pub use header::{
    Codec, FOOTER_LEN, FOOTER_MAGIC, FRAME_HEADER_LEN, Footer, FrameHeader, MAX_RAW_LEN, MAX_STORED_LEN,
    PACK_HEADER_LEN, PACK_MAGIC, PACK_VERSION, PackHeader,
};
pub use position::{FRAME_POS_LEN, FramePos};
