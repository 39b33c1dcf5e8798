//! The WAL: streaming it into the archive, and giving it back.

mod assembler;
mod route;

pub use assembler::{Assembler, Piece};
pub use route::{Ancestor, Leg, ResumeStrategy, Route, RouteFacts, after_gap, plan_route};
