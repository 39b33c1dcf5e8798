//! The walsender protocol from outside: a scripted server for what a real one does only when something breaks, and
//! real servers for everything else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "test code tells what went wrong by panicking"
)]

mod backup_faults;
mod certificates;
mod commands;
mod connect;
mod connect_faults;
mod connect_hosts;
mod connect_tls;
mod corpus;
mod fake;
mod login;
mod real_backup;
mod real_here;
mod real_slot;
mod real_stream;
mod stream_end;
mod stream_faults;
mod stream_line;
mod stream_status;
