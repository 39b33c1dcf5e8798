//! A disk that keeps nothing but what was synced: what a power cut at any moment may leave of a repository's directory.
//!
//! A debug build of the product records each change of the directory and each sync (`HARDSTORAGE_DISK_RECORD`; see `trial`
//! in the crate of the stores). [`Record`] is that, and [`Disk`] what is left when it is cut off somewhere:
//!
//! - the bytes of a file are safe when they were written before an fsync or fdatasync of the file began that has ended;
//! - a name, or that it is gone, is safe when it was made before an fsync of its directory began that has ended; and it is
//!   found only if the names of all directories above it were safe as well;
//! - everything else happens or not, each change for itself, as [`Fate`] says. File systems keep more than that; none may
//!   keep less.

mod model;
mod record;

pub use model::{Disk, Fate, Ignoring};
pub use record::Record;
