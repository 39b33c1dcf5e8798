//! The WAL: streaming it into the archive, and giving it back.

mod assembler;
mod attempt;
mod audit;
mod follow;
mod frontier;
mod histories;
mod idle_mark;
mod lineage;
mod monitor;
mod recorder;
mod route;
mod stream;

pub use assembler::{Assembler, Piece};
pub use audit::{Continuity, MissingWal, Stretch, audit};
pub use frontier::frontiers;
pub use histories::capture_histories;
pub use lineage::{choose_lineage, lineages};
pub use monitor::Monitor;
pub use recorder::Recorder;
pub use route::{Ancestor, Leg, ResumeStrategy, Route, RouteFacts, after_gap, plan_route};
pub use stream::{StopSignal, StreamPlan, StreamResult, run_stream};
