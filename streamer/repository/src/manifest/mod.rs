//! Manifests: the signed roots of backups. A manifest's presence at its name *is* the commit of a backup; a void at
//! that name forbids the commit for ever.

mod model;

pub use model::{
    Ancestor, BackupKind, DamagedPage, DataChecksums, ExternalFile, FrameAt, HistoryHash, MANIFEST_FORMAT, Manifest,
    PackId, Root, ServerFacts, Tablespace, Times, Totals, WalFacts, WalRange, WriterFacts,
};
