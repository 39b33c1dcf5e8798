//! The repository format: packs, frames, map layers, manifests, keys, WAL objects, sessions.
//!
//! Knows the object store and the codec; knows nothing of PostgreSQL's wire, of tar or of processes. Everything
//! that is stored is created once and never overwritten; the presence of a manifest *is* the commit of a backup.

mod audit;
mod catalog;
mod collect;
mod config;
mod create_only;
mod damage;
mod data_key;
mod deployment;
mod descriptor;
mod document;
mod envelope;
mod init;
mod keys;
mod layer;
pub mod layout;
mod listing;
mod manifest;
mod pack;
mod policy;
mod probe;
mod reader;
mod repository;
mod rotation;
mod scrub;
mod session;
mod state;
mod surroundings;
mod table;
mod test_support;
mod text_number;
pub mod wal;
mod writer;

pub use audit::{
    Actor, Anchor, AnchorKind, AnchorVerdict, AuditAction, AuditEvent, AuditLog, AuditRecord, AuditStanding, BadRecord,
    ChainHead, ChainVerdict, Claim, Listed, Month, PaperAnchor, Receipt,
};
pub use catalog::{Catalog, CatalogEntry, Content};
pub use collect::{Amount, CollectOptions, Collection, Leftovers, Waits, collect, leftovers};
pub use config::RepoConfig;
pub use create_only::CreateOnly;
pub use damage::{Damage, DamageRecord};
pub use data_key::{DataKey, PackKind};
pub use deployment::{Deployment, SignerLook};
pub use descriptor::{Descriptor, Encryption, REPOSITORY_FORMAT};
pub use envelope::{EnvelopeKind, open_envelope, seal_envelope, split_envelope};
pub use init::InitOptions;
pub use keys::{KeyFiles, Keyring, Signers, kek_fingerprint};
pub use layer::{
    COLUMN_ENTRY_LEN, LayerMap, MapFrame, MapRun, PageFacts, PageMap, PagePlace, PageRun, SECTION_LEN, decode_column,
    encode_column, page_count, page_len,
};
pub use layout::{Lineage, WriterId};
pub use manifest::{
    ATTACHMENTS, Ancestor, BackupKind, Committed, DamagedPage, DataChecksums, ExpectedPack, ExternalFile, FrameAt,
    HistoryHash, MANIFEST_FORMAT, Manifest, PackId, Root, ServerFacts, StoredManifest, Tablespace, Times, Totals,
    VerifiedManifest, VoidRecord, Voided, WalFacts, WalRange, WriterFacts, void_backup,
};
pub use pack::{
    Codec, DIRECTORY_ENTRY_LEN, DirectoryEntry, FOOTER_LEN, FOOTER_MAGIC, FRAME_HEADER_LEN, FRAME_POS_LEN, Footer,
    FrameHeader, FramePos, FrameReader, MAX_RAW_LEN, MAX_STORED_LEN, PACK_HEADER_LEN, PACK_MAGIC, PACK_VERSION,
    PackCipher, PackHeader, decode_directory,
};
pub use probe::{Probe, ProbeFacts};
pub use reader::{
    BackupReader, CheckedPack, ContentDamage, ContentDamages, ContentReport, DiscardSink, Entries, FileInfo, FileSink,
    HurtBackup, PresentFiles, Progress, ReadOptions, Selection, VerifyDepth, VerifyReport, WindowLimits,
    check_pack_bytes, damage_impact,
};
pub use repository::{Access, Mode, Repository};
pub use rotation::Rotation;
pub use scrub::{
    HealOptions, HealReport, Healed, NotHealed, ScrubOptions, ScrubProblem, ScrubProgress, ScrubReport, ScrubTarget,
    heal, scrub,
};
pub use session::{
    Abandoned, Ending, LATELY, Liveness, Opening, ProcessFacts, ProgressRecord, Purpose, Seen, Session, SessionRecord,
    SessionTiming, SessionView, Sessions, abandoned, end_session, list_sessions, look,
};
pub use state::{Action, BackupState, Mark};
pub use surroundings::{Clock, Entropy, Surroundings, SystemClock, SystemEntropy};
pub use table::{
    Entry, EntryKey, EntryKind, FileEntry, LayerRefs, PackList, PackRecord, PackUse, TableFrame, TableIndex, TableRun,
    Value,
};
pub use text_number::{decimal, hex_bytes};
pub use writer::{AncestorReader, BackupWriter, FileMeta, Finished, PageCount, WriterOptions};
