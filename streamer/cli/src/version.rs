//! The version line: `pg_hardstorage 0.1.0 (commit, built time)`.

/// What follows the program's name: the build script fills in commit and time where it knows them.
pub(crate) const LINE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("HARDSTORAGE_COMMIT"),
    ", built ",
    env!("HARDSTORAGE_BUILT"),
    ")"
);
