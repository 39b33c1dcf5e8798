//! Taking a base backup.

mod checksums;
mod damage;
mod external;
mod label;
mod pg_manifest;
mod receive;
mod run;
mod tar;
mod wal_cover;

pub use checksums::PostgresChecksums;
pub use label::BackupLabel;
pub use pg_manifest::{ManifestFile, ManifestLine, ManifestParser, WalRange};
pub use run::{BackupPlan, BackupResult, SNAPSHOT, run_backup};
pub use tar::{Member, MemberKind, TarEvent, TarReader};
