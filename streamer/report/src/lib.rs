//! The contract that others read: names, positions, events, results, error codes and exit codes.
//!
//! Every other crate of the engine depends on this one and it depends on none of them, so that the
//! operator (which does not link the engine) reads exactly the types that the engine writes. Nothing
//! here does IO, prints or reads a clock.

mod catalog;
mod codes;
mod drill;
mod error;
mod event;
mod lsn;
mod names;
mod restore;
mod run_report;
mod segment;
mod size;
mod stream_status;

pub use catalog::{BackupRecord, CATALOG_SCHEMA, Catalog, CatalogPage};
pub use codes::{ALL as ALL_CODES, Code, CodeInfo};
pub use drill::{DrillCheck, DrillReport};
pub use error::{Error, Kind, Result, Retry};
pub use event::{Event, EventSink, NullSink, Severity, Subject};
pub use lsn::{Lsn, ParseLsnError};
pub use names::{BackupId, DeploymentName, NameError};
pub use restore::{
    CollationChange, DisabledSubscription, PointKind, PostgresVersion, Reachable, Recovered, RecoveryPoint,
    RecoveryReport, RestoreCourse, RestorePlanReport, RestoreReport, TablespacePlace,
};
pub use run_report::{CatalogTag, REPORT_SCHEMA, RunReport, RunState};
pub use segment::{SegmentName, SegmentSize, SystemId, Timeline};
pub use size::ByteSize;
pub use stream_status::{ErrorReport, PatroniSlot, SlotHealth, StreamPhase, StreamStatus};

/// Every error code with its exit code, as data and as constants ([`codes::storage::UNREACHABLE`] and so on).
pub mod code {
    pub use super::codes::{cli, engine, replication, repository, storage, usage};
}
