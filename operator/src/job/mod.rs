//! Jobs that run the engine once: built (pure), observed, and read to their end.
//!
//! A run is known by the UID of its Job, or of the object that the Job was made for, whose UID is known before the Job is:
//! the engine writes it into the backup's manifest, and a result is believed only from a pod of the Job that bears it. What became of a run is told by, in this order: the
//! report that its pod serves, the report in its termination message, the reason why its pod is gone.

mod build;
mod end;
mod observe;
mod outcome;

pub use build::{JobPlan, build, spec};
pub use end::{ending, is_complete, mark, mark_stored};
pub use observe::{catalog, heard, observe};
pub use outcome::{FailureReason, Observed, PodFacts, run_id};
