//! The repository format: packs, frames, map layers, manifests, keys, WAL objects, sessions.
//!
//! Knows the object store and the codec; knows nothing of PostgreSQL's wire, of tar or of processes. Everything
//! that is stored is created once and never overwritten; the presence of a manifest *is* the commit of a backup.

mod config;
mod data_key;
mod deployment;
mod envelope;
mod layer;
pub mod layout;
mod manifest;
mod pack;
mod surroundings;
mod table;
mod test_support;
mod text_number;

pub use config::RepoConfig;
pub use data_key::{DataKey, PackKind};
pub use deployment::Deployment;
pub use envelope::{EnvelopeKind, open_envelope, seal_envelope, split_envelope};
pub use layer::{
    COLUMN_ENTRY_LEN, LayerMap, MapFrame, MapRun, PageFacts, PageMap, PagePlace, PageRun, SECTION_LEN, decode_column,
    encode_column, page_count, page_len,
};
pub use layout::{Lineage, WriterId};
pub use manifest::{
    Ancestor, BackupKind, DamagedPage, DataChecksums, ExternalFile, FrameAt, HistoryHash, MANIFEST_FORMAT, Manifest,
    PackId, Root, ServerFacts, Tablespace, Times, Totals, WalFacts, WalRange, WriterFacts,
};
pub use pack::{
    Codec, DIRECTORY_ENTRY_LEN, DirectoryEntry, FOOTER_LEN, FOOTER_MAGIC, FRAME_HEADER_LEN, FRAME_POS_LEN, Footer,
    FrameHeader, FramePos, FrameReader, MAX_RAW_LEN, MAX_STORED_LEN, PACK_HEADER_LEN, PACK_MAGIC, PACK_VERSION,
    PackCipher, PackHeader, decode_directory,
};
pub use surroundings::{Clock, Entropy, Surroundings, SystemClock, SystemEntropy};
pub use table::{
    Entry, EntryKey, EntryKind, FileEntry, LayerRefs, PackList, PackRecord, PackUse, TableFrame, TableIndex, TableRun,
    Value,
};
pub use text_number::{decimal, hex_bytes};
