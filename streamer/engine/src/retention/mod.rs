//! Which backups stay.

mod gfs;

pub use gfs::{Action, Candidate, Decision, GfsPolicy, decide};
