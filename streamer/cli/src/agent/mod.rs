//! `agent`: one process that looks after every deployment of the configuration, on a machine without a scheduler.
//!
//! It is a supervisor and nothing else: every stream and every task is a child process, this same program with the
//! command that a person would type. A child that hangs can be killed, one that leaks ends, and there is no second way in
//! which a backup is taken. It lies in the command line's crate because what it knows is that command line; the engine
//! does not know that it is run by one.
//!
//! - `task`: the table of what runs. One row is one task.
//! - `schedule`: when it is due. Pure: clock, record and repository are arguments.
//! - `state`: what must outlive the process, in one file.
//! - `plan`: the configuration as targets.
//! - `child`: one child process. `stream`: the child that is always there.
//! - `supervisor`: the one loop that owns all of it, and never waits for a deployment.
//! - `view`, `serve`, `metrics`: what it shows.

mod ask;
mod child;
mod metrics;
mod notify;
mod plan;
mod schedule;
mod serve;
mod state;
mod stream;
mod supervisor;
mod table;
mod task;
mod view;

pub(crate) use self::child::Launcher;
pub(crate) use self::notify::Manager;
pub(crate) use self::plan::Plan;
pub(crate) use self::serve::{Pulse, serve};
pub(crate) use self::state::Book;
pub(crate) use self::supervisor::{Stopped, Supervisor};
pub(crate) use self::table::{Table, table};
pub(crate) use self::task::TaskName;
