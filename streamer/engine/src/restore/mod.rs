//! Restoring a backup to a moment.

mod when;

pub use when::{both_zones, parse_time};
