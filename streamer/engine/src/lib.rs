//! The use cases: backup, WAL streaming, restore, verify, retention. Each is a plan (a value computed without side
//! effects, which previews and dry runs print) and a run. Knows how PostgreSQL's wire and the repository format meet;
//! never prints, never exits.

pub mod audit;
pub mod backup;
pub mod catalogue;
mod credentials;
pub mod drill;
pub mod enrol;
pub mod fetch;
pub mod inspect;
pub mod patroni;
mod postgres;
pub mod preflight;
mod progress;
pub mod push;
pub mod records;
pub mod recover;
pub mod restore;
pub mod retention;
pub mod source;
pub mod verify;
pub mod wal;
pub mod window;
