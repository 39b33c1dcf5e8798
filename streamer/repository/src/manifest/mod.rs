//! Manifests: the signed roots of backups. A manifest's presence at its name *is* the commit of a backup; a void at
//! that name forbids the commit for ever.

mod commit;
mod gone;
pub(crate) mod load;
mod model;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests only")]
pub(crate) mod samples;
pub(crate) mod signed;
#[cfg(test)]
mod tests;
pub(crate) mod void;

pub use commit::{Committed, ExpectedPack};
pub(crate) use gone::{is_gone, mark_gone};
pub use load::StoredManifest;
pub use model::{
    ATTACHMENTS, Ancestor, BackupKind, DamagedPage, DataChecksums, ExternalFile, FrameAt, HistoryHash, MANIFEST_FORMAT,
    Manifest, PackId, Root, ServerFacts, Tablespace, Times, Totals, WalFacts, WalRange, WriterFacts,
};
pub use signed::VerifiedManifest;
pub use void::{VoidRecord, Voided, void_backup};
