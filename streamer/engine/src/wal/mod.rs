//! The WAL: streaming it into the archive, and giving it back.

mod assembler;
mod histories;
mod lineage;
mod monitor;
mod recorder;
mod route;
mod stream;

pub use assembler::{Assembler, Piece};
pub use histories::capture_histories;
pub use lineage::{choose_lineage, lineages};
pub use monitor::Monitor;
pub use recorder::Recorder;
pub use route::{Ancestor, Leg, ResumeStrategy, Route, RouteFacts, after_gap, plan_route};
pub use stream::{StopSignal, StreamPlan, StreamResult, frontiers, run_stream};
