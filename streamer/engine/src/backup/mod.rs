//! Taking a base backup.

mod ancestor;
mod archive_end;
mod checksums;
mod commit;
mod damage;
mod external;
mod external_sql;
mod label;
mod pg_manifest;
mod receive;
mod result;
mod rivals;
mod run;
mod settle;
mod tar;
mod tar_header;
mod wal_cover;

pub use checksums::PostgresChecksums;
pub use label::BackupLabel;
pub use pg_manifest::{ManifestFile, ManifestLine, ManifestParser, WalRange};
pub use result::BackupResult;
pub use run::{BackupPlan, SNAPSHOT, run_backup};
pub use tar::{TarEvent, TarReader};
pub use tar_header::{Member, MemberKind};
