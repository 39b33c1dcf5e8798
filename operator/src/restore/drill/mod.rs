//! Drills: a copy is restored as any other, looked at by a second pod, and thrown away.
//!
//! The copy must be harmless. The pod that fills it has the credentials of the repository and runs none of the user's
//! questions; the pod that asks them has no credentials and no network, and begins when the first one is gone. What was
//! found is stored before anything is thrown away, and told to the Deployment and to the Backup while our finalizer still
//! holds the object: broken off anywhere, the rest is done at the next look.

mod build;
mod check;
mod result;
mod status;
mod tell;
mod throw_away;

pub use build::name;
pub use result::proven;
pub use status::end;
