//! The proof of a chain: every object of its folder in order, each number once, each record authentic, in the folder that
//! follows from the one before it, and bound to the stored bytes of that one. Then what anchors say of it.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hardstorage_codec::plain_hash;
use hardstorage_report::{Error, Result};
use hardstorage_storage::Key;
use jiff::Timestamp;
use serde::Serialize;

use super::chain::{AHEAD, AuditLog, next_month};
use super::record::{AuditRecord, Month};
use crate::layout;
use crate::listing::Objects;

/// What somebody says of a chain.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Where it comes from, for people.
    pub source: String,
    /// The number of the record that was the head.
    pub sequence: u64,
    /// The hash of its stored bytes, or the beginning of it.
    pub hash: Vec<u8>,
    /// When it was made.
    pub at: Option<Timestamp>,
    /// Whether it comes from the repository itself: whoever cuts off the end of the chain can remove it, too.
    pub within: bool,
}

/// The first record that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRecord {
    /// Its number.
    pub sequence: u64,
    /// What is wrong.
    pub problem: String,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnchorVerdict {
    /// Where it comes from.
    pub source: String,
    /// The number of the record that was the head.
    pub sequence: u64,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether it comes from the repository itself, and so proves little.
    pub within: bool,
    /// Whether the chain holds what was claimed; unknown behind a record that is itself bad.
    pub holds: Option<bool>,
}

/// What a chain is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainVerdict {
    /// Records that are as they should be, from the first on.
    pub good: u64,
    /// The hash of the last of them.
    pub hash: Option<[u8; 32]>,
    /// When the last of them was written.
    pub at: Option<Timestamp>,
    /// The first one that is not.
    pub first_bad: Option<BadRecord>,
    /// What became of the claims.
    pub anchors: Vec<AnchorVerdict>,
}

impl AuditLog {
    /// Walks the whole chain, and compares it with these claims and with the receipts of its own anchors.
    pub async fn verify(&self, claims: &[Claim]) -> Result<ChainVerdict> {
        let mut all = claims.to_vec();
        let mut unreadable = None;
        for receipt in self.receipts().await? {
            match receipt {
                Ok(receipt) => all.push(receipt.claim()),
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        let mut walk = self.walk().await?;
        if let Some(error) = unreadable {
            walk.bad(walk.next(), format!("a receipt of an anchor was altered: {error}"));
        }
        Ok(walk.judged(&all))
    }

    async fn walk(&self) -> Result<Walk> {
        let folder = layout::audit_folder(self.deployment.name());
        let anchors = layout::receipts_folder(self.deployment.name());
        let mut objects = Objects::under(self.deployment.store(), folder.clone());
        let mut keys = Vec::new();
        while let Some(object) = objects.next().await? {
            if !object.key.as_str().starts_with(&anchors) {
                keys.push(object.key);
            }
        }
        let mut read = stream::iter(keys)
            .map(|key| async move { (self.deployment.store().get(&key).await, key) })
            .buffered(AHEAD);
        let mut walk = Walk::default();
        while let Some((stored, key)) = read.next().await {
            let name = layout::audit_object(&folder, &key);
            let decode = |name, stored: &Bytes| self.decode(name, &key, stored);
            if !walk.step(&key, name, stored?.as_ref(), decode) {
                break;
            }
        }
        Ok(walk)
    }
}

/// How far a walk has come.
#[derive(Debug, Default)]
struct Walk {
    hashes: Vec<[u8; 32]>,
    last: Option<AuditRecord>,
    first_bad: Option<BadRecord>,
}

impl Walk {
    fn next(&self) -> u64 {
        self.hashes.len() as u64 + 1
    }

    fn bad(&mut self, sequence: u64, problem: impl Into<String>) -> bool {
        if self.first_bad.as_ref().is_none_or(|known| sequence < known.sequence) {
            let problem = problem.into();
            self.first_bad = Some(BadRecord { sequence, problem });
        }
        false
    }

    /// Takes the next object; false when it is not the next record.
    fn step(
        &mut self,
        key: &Key,
        name: Option<(Month, u64)>,
        stored: Option<&Bytes>,
        decode: impl Fn((Month, u64), &Bytes) -> Result<AuditRecord>,
    ) -> bool {
        let expected = self.next();
        let Some((month, sequence)) = name else {
            return self.bad(expected, format!("{key} does not belong here"));
        };
        if sequence > expected {
            return self.bad(expected, format!("it is missing: the next record is {sequence}"));
        }
        if sequence < expected {
            return self.bad(sequence.max(1), format!("it is there twice: {key} was put in"));
        }
        let Some(stored) = stored else {
            return self.bad(expected, format!("{key} is listed, but not there"));
        };
        let record = match decode((month, sequence), stored) {
            Ok(record) => record,
            Err(error) => return self.bad(expected, error.to_string()),
        };
        match &self.last {
            Some(last) if next_month(last.month, Some(last)) != month => {
                return self.bad(expected, format!("{key} does not lie in the folder of its month"));
            }
            _ => {}
        }
        let before = self.hashes.last().copied().unwrap_or_default();
        if record.prev_hash != before {
            // Its own MAC holds, and so does the other's: one of both was written anew by somebody with the key.
            let problem = match expected {
                1 => "it is the first record, and names one before it".to_owned(),
                _ => format!("record {expected} was written behind another record than this one"),
            };
            return self.bad(expected.saturating_sub(1).max(1), problem);
        }
        self.hashes.push(plain_hash(stored));
        self.last = Some(record);
        true
    }

    fn judged(mut self, claims: &[Claim]) -> ChainVerdict {
        let mut anchors = Vec::with_capacity(claims.len());
        let whole = self.first_bad.is_none();
        for claim in claims {
            let index = claim
                .sequence
                .checked_sub(1)
                .and_then(|index| usize::try_from(index).ok());
            let found = index.and_then(|index| self.hashes.get(index));
            let holds = match found {
                Some(hash) => Some(!claim.hash.is_empty() && hash.starts_with(&claim.hash)),
                None if whole => Some(false),
                None => None,
            };
            if holds == Some(false) {
                let (source, sequence) = (&claim.source, claim.sequence);
                if found.is_some() {
                    let what = format!("it, or one before it, was written anew: {source} has seen another one");
                    self.bad(sequence.max(1), what);
                } else {
                    let what =
                        format!("it is missing: the chain was cut off here, {source} has seen record {sequence}");
                    self.bad(self.next(), what);
                }
            }
            anchors.push(AnchorVerdict {
                source: claim.source.clone(),
                sequence: claim.sequence,
                at: claim.at,
                within: claim.within,
                holds,
            });
        }
        let good = match &self.first_bad {
            Some(bad) => self
                .hashes
                .len()
                .min(usize::try_from(bad.sequence.saturating_sub(1)).unwrap_or(usize::MAX)),
            None => self.hashes.len(),
        };
        ChainVerdict {
            good: good as u64,
            hash: self.hashes[..good].last().copied(),
            at: self
                .last
                .filter(|last| last.sequence == good as u64)
                .map(|last| last.at),
            first_bad: self.first_bad,
            anchors,
        }
    }
}

impl ChainVerdict {
    /// Why the chain is not to be believed.
    pub fn failure(&self, deployment: &hardstorage_report::DeploymentName) -> Option<Error> {
        let bad = self.first_bad.as_ref()?;
        Some(Error::new(
            hardstorage_report::code::repository::AUDIT_BROKEN,
            format!(
                "the audit chain of {deployment} is not to be believed from record {} on: {}",
                bad.sequence, bad.problem
            ),
        ))
    }
}
