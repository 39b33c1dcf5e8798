//! Sessions: what live processes pin and adopt. Both sides write, then read: a process creates its session *before*
//! it reads the state of what it pins, the collector writes `purge` *before* it lists the sessions, so one always sees
//! the other. Clocks decide when a silent session is ended, never what is safe: the end of a backup's session is a void
//! at its manifest's name, and a process that wakes late finds it there.

mod ending;
mod live;
mod process;
mod record;
#[cfg(test)]
mod tests;

pub use ending::{Ending, Liveness, SessionView, end_session, list_sessions, open_sessions};
pub use live::{Opening, Session};
pub use process::{ProcessFacts, Seen, look};
pub use record::{Purpose, SessionRecord, SessionTiming};
