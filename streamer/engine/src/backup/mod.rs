//! Taking a base backup.

mod label;
mod pg_manifest;
mod tar;

pub use label::BackupLabel;
pub use pg_manifest::{ManifestFile, ManifestLine, ManifestParser, WalRange};
pub use tar::{Member, MemberKind, TarEvent, TarReader};
