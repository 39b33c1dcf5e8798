//! Jobs that run the engine once: built (pure), observed, and read to their end.
//!
//! A run is known by the UID of its Job: Kubernetes labels the Job's pods with it, the engine writes it into the backup's
//! manifest, and a result is believed from a pod that bears it only. What became of a run is told by, in this order: the
//! report that its pod serves, the report in its termination message, the reason why its pod is gone.

mod build;
mod observe;
mod outcome;

pub use build::{JobPlan, build, spec};
pub use observe::{heard, observe};
pub use outcome::{FailureReason, Observed, PodFacts, judge};
