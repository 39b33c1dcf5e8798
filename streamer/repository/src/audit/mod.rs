//! `audit/<deployment>/`: what was done to a deployment, as a chain. Each record carries the hash of the stored bytes of
//! the one before it, so that none can be changed, taken out or put in without a trace; that none was cut off at the end
//! shows only against an anchor, a signed word about the head that is kept elsewhere.
//!
//! Two writers must never make two records of one number. Creation is exclusive per name, so the name of the next record
//! follows from the last one alone: its folder is the month of the record *before* it, and of the very first one the
//! month in which the repository was made. No clock of the writer is part of it, at the turn of a month or ever, and
//! months never go back, so the order of names is the order of numbers.

mod anchor;
mod chain;
mod everywhere;
mod paper;
mod receipt;
mod record;
mod standing;
mod walk;

pub use anchor::Anchor;
pub(crate) use chain::KnownHead;
pub use chain::{AuditLog, ChainHead};
pub use paper::PaperAnchor;
pub use receipt::{AnchorKind, Receipt};
pub use record::{Actor, AuditAction, AuditEvent, AuditRecord, Listed, Month};
pub use standing::AuditStanding;
pub use walk::{AnchorVerdict, BadRecord, ChainVerdict, Claim};

#[cfg(test)]
mod tests;
