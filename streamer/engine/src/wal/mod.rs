//! The WAL: streaming it into the archive, and giving it back.

mod assembler;
mod attempt;
mod audit;
mod crossing;
mod drain;
mod follow;
mod histories;
mod idle_mark;
mod lineage;
mod monitor;
mod opening;
mod own_tails;
mod patience;
mod recorder;
mod route;
mod stream;
mod window_watch;

pub use assembler::{Assembler, Piece};
pub use audit::{Continuity, MissingWal, Stretch, audit};
pub use histories::capture_histories;
pub use lineage::{choose_lineage, lineages};
pub use monitor::Monitor;
pub use own_tails::OwnTails;
pub use recorder::Recorder;
pub use route::{Ancestor, Leg, ResumeStrategy, Route, RouteFacts, plan_route};
pub use stream::{StopSignal, StreamPlan, StreamResult, run_stream};
