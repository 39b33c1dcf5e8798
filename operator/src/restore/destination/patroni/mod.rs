//! A restored database as the first member of a cluster that Patroni runs. Pure.
//!
//! A StatefulSet takes a claim of its first pod's name as it finds it, and Patroni starts on a data directory that is there
//! when nothing that it has kept speaks against it. So the claim is made and filled, recovered and promoted. Left to Patroni
//! that would go wrong without a word (tried with 4.1.5): it drops `restore_command` and every target, replays what happens
//! to lie in `pg_wal`, and promotes onto a timeline that may be in use. Nothing of the cluster is changed, started or
//! scaled; the status tells what to do next.

mod judge;
mod kept;
mod next;

use hardstorage_crds::{ClaimDestination, Flavor, NewClaim, PatroniDestination, Restore, Size};
use serde_json::Value;

use super::{known_image, refusal};
use crate::repository::Refusal;

pub use judge::{Found, judge};
pub use kept::{Kept, OBJECTS};
pub use next::next;

/// The volumeClaimTemplate of Zalando's StatefulSets.
const ZALANDO: &str = "pgdata";

/// The StatefulSet that takes the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name.
    pub stateful_set: &'a str,
    /// The name of the volumeClaimTemplate.
    pub template: &'a str,
    /// Patroni's scope.
    pub scope: &'a str,
}

impl Member<'_> {
    /// What the names of all its claims begin with; the number of the member follows.
    pub fn claims(&self) -> String {
        format!("{}-{}-", self.template, self.stateful_set)
    }

    /// The name of its first pod.
    pub fn first(&self) -> String {
        format!("{}-0", self.stateful_set)
    }
}

/// The StatefulSet, unless Crunchy's operator names it.
pub fn member(wanted: &PatroniDestination) -> Option<Member<'_>> {
    let stateful_set = wanted.stateful_set.as_deref()?;
    let template = match wanted.flavor {
        Flavor::Zalando => ZALANDO,
        _ => wanted.claim.as_deref()?,
    };
    Some(Member {
        stateful_set,
        template,
        scope: wanted.scope.as_deref().unwrap_or(stateful_set),
    })
}

/// The claim, and how it is filled.
pub fn claim(restore: &Restore, wanted: &PatroniDestination, needed: u64) -> Result<ClaimDestination, Refusal> {
    let (path, uid, gid) = match &wanted.flavor {
        Flavor::Plain => ("pgdata", 999, 999),
        Flavor::Zalando => ("pgroot/data", 101, 103),
        Flavor::Crunchy => ("pgdata", 26, 26),
        Flavor::Other(word) => {
            return Err(refusal(
                "DestinationUnknown",
                format!("patroni.flavor {word} is not known"),
                "this operator may be older than the object",
            ));
        }
    };
    let name = match member(wanted) {
        Some(member) => format!("{}0", member.claims()),
        None => wanted.claim.clone().unwrap_or_default(),
    };
    let snapshot = snapshot(restore);
    let recorded = |name: &str| snapshot?.get(name)?.as_i64().filter(|id| *id > 0);
    let create = wanted.create.clone().unwrap_or_default();
    Ok(ClaimDestination {
        name,
        create: Some(NewClaim {
            size: create.size.or_else(|| recorded_size(snapshot, needed)),
            ..create
        }),
        path: wanted.path.clone().unwrap_or_else(|| path.to_owned()),
        uid: wanted.uid.or_else(|| recorded("uid")).unwrap_or(uid),
        gid: wanted.gid.or_else(|| recorded("gid")).unwrap_or(gid),
    })
}

/// What the source's claims had, when what is restored fits into it.
fn recorded_size(snapshot: Option<&Value>, needed: u64) -> Option<Size> {
    let size = Size::new(snapshot?.get("claimSize")?.as_str()?);
    size.get().filter(|bytes| *bytes >= super::with_reserve(needed))?;
    Some(size)
}

/// The image that recovers the data: of the same major version, and with the libraries that the WAL needs.
pub fn image(restore: &Restore) -> Result<String, Refusal> {
    known_image(restore).ok_or_else(|| {
        refusal(
            "ImageUnknown",
            "it is not known which image of PostgreSQL ran the source",
            "set postgresImage to the image that Patroni's pods will run",
        )
    })
}

fn snapshot(restore: &Restore) -> Option<&Value> {
    restore.status.as_ref()?.plan.as_ref()?.source_snapshot.as_ref()
}

#[cfg(test)]
mod tests;
