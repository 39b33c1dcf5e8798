//! Sessions: what live processes pin and adopt. Both sides write, then read: a process creates its session *before*
//! it reads the state of what it pins, the collector writes `purge` *before* it lists the sessions, so one always sees
//! the other. Clocks decide when a silent session is ended, never what is safe: the end of a backup's session is a void
//! at its manifest's name, and a process that wakes late finds it there.

mod adopt;
mod ending;
mod live;
mod process;
mod progress;
mod record;
#[cfg(test)]
mod tests;

pub use adopt::{Abandoned, abandoned};
pub use ending::{Ending, Liveness, SessionView, Sessions, end_session, list_sessions};
pub use live::{Opening, Session};
pub use process::{ProcessFacts, Seen, look};
pub use progress::ProgressRecord;
pub use record::{LATELY, Purpose, SessionRecord, SessionTiming};
