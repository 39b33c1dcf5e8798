//! What a build with debug assertions can be told by its environment, so that tests can prove what is left when a process is
//! killed, the power is cut or a disk hangs: it kills itself or stands still at a named point, and records in which order it
//! changed the disk.
//!
//! - `HARDSTORAGE_POINTS=FILE` appends a line for each point that is passed.
//! - `HARDSTORAGE_DIE_AT=LINE` kills the process (SIGKILL) at the point of that line.
//! - `HARDSTORAGE_HOLD_AT=LINE` stands still at the point of that line while `HARDSTORAGE_HOLD_FILE=FILE` is there, as a disk
//!   does that hangs.
//! - `HARDSTORAGE_DISK_RECORD=FILE` appends each change of a repository's directory, each sync, and what was promised to
//!   others (see `record`); the bytes that were written go into `FILE.data`.
//!
//! A point is `KIND WHEN PLACE NUMBER`: `link before wal/*/*/segments/* 2` is the moment before the second segment gets its
//! name. In a place each part with a digit in it is a star, so that a point has the same name in every run, and the number
//! counts the points of that name in one process: a process does many things at a time, and only those of one name come in an
//! order that another run repeats. There are points around every call that changes or syncs a directory's files (`disk` of
//! the file store) and around every call of any store, which is how runs on object stores have them.
//!
//! A released program has nothing of this: without debug assertions every function here only does the work that it is
//! given. `scripts/check-portable` looks for the names of the variables in it.

#[cfg(not(debug_assertions))]
mod off;
#[cfg(debug_assertions)]
mod on;
#[cfg(debug_assertions)]
mod record;
#[cfg(debug_assertions)]
mod store;

#[cfg(not(debug_assertions))]
use off as chosen;
#[cfg(debug_assertions)]
use on as chosen;

pub use chosen::promise;
pub(crate) use chosen::{change, opened, sync, watched, write};
