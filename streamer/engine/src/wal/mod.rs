//! The WAL: streaming it into the archive, and giving it back.

mod apart;
mod assembler;
mod attempt;
mod audit;
mod crossing;
mod drain;
mod flushing;
mod follow;
mod histories;
mod idle_mark;
mod lineage;
mod monitor;
mod open_segment;
mod opening;
mod own_tails;
mod patience;
mod patroni_slot;
mod recorder;
mod route;
mod slot;
mod stale;
mod stream;
mod sync_watch;
mod tidying;
mod window_watch;

pub use assembler::{Assembler, Piece};
pub use audit::{Continuity, MissingWal, Stretch, audit};
pub(crate) use crossing::collector_at;
pub use histories::capture_histories;
pub use lineage::{choose_lineage, is_another_cluster, lineage_of, lineages, lineages_and_backups, system_accepted};
pub use monitor::Monitor;
pub use own_tails::OwnTails;
pub use recorder::Recorder;
pub use route::{Ancestor, Leg, ResumeStrategy, Route, RouteFacts, plan_route};
pub(crate) use stale::refuse_stale;
pub use stream::{StopSignal, StreamPlan, StreamResult, run_stream};
