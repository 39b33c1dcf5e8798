//! WAL records.
