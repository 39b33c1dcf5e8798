//! Connection strings against libpq's documented behaviour.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
