//! What is known of the place at a Repository's URL, judged from its spec, its status and its newest runs. Pure.
//!
//! Two things are never done here, whatever is seen: a key is never made for a repository that exists, and a place that
//! once held our repository is never initialised again.

use hardstorage_crds::{AccessMode, Creation, RepositorySpec, RepositoryStatus};

use super::outcome::{Init, Probe, Run, RunFailure, Runs, follows};
use super::resolve::ClaimFacts;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has looked yet.
    Looking,
    /// The claim that it lies on is not there.
    ClaimMissing(String),
    /// The store did not answer, or refused us.
    Unreachable(RunFailure),
    /// Nothing is there, and it may be created.
    MayCreate,
    /// It is being created.
    Creating,
    /// It could not be created.
    CreationFailed(RunFailure),
    /// Nothing is there, and it may not be created.
    NotFound,
    /// Our repository was there, and nothing is there any more.
    Vanished,
    /// Our repository was there, and another one is there now.
    Replaced(String),
    /// Something else is there.
    NotARepository(Vec<String>),
    /// Objects of a repository are there, without the one that describes it.
    DescriptorLost,
    /// The repository is encrypted and the spec says that it is not, or the other way round.
    EncryptionMismatch {
        /// Whether what is there is encrypted.
        encrypted: bool,
    },
    /// Its key is not at hand: why, where more is known than that.
    KeyMissing(Option<String>),
    /// The key at hand is another one.
    KeyMismatch {
        /// The fingerprint of the key at hand.
        at_hand: String,
        /// The fingerprint of the repository's key.
        wanted: String,
    },
    /// The engine said a word that this version does not know.
    Unclear(String),
    /// It is there and can be used.
    Good,
}

impl Verdict {
    /// Whether somebody has to do something before it can be used.
    pub fn stalls(&self) -> bool {
        !matches!(
            self,
            Verdict::Looking
                | Verdict::Unreachable(_)
                | Verdict::MayCreate
                | Verdict::Creating
                | Verdict::CreationFailed(_)
                | Verdict::Good
        )
    }

    /// The word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Verdict::Looking => "Probing",
            Verdict::ClaimMissing(_) => "ClaimMissing",
            Verdict::Unreachable(_) => "Unreachable",
            Verdict::MayCreate | Verdict::Creating => "Creating",
            Verdict::CreationFailed(_) => "CreationFailed",
            Verdict::NotFound => "NotFound",
            Verdict::Vanished => "RepositoryVanished",
            Verdict::Replaced(_) => "RepositoryReplaced",
            Verdict::NotARepository(_) => "NotARepository",
            Verdict::DescriptorLost => "DescriptorLost",
            Verdict::EncryptionMismatch { .. } => "EncryptionMismatch",
            Verdict::KeyMissing(_) => "KeyMissing",
            Verdict::KeyMismatch { .. } => "KeyMismatch",
            Verdict::Unclear(_) => "EngineTooNew",
            Verdict::Good => "Ready",
        }
    }
}

/// Judges it.
pub fn judge(
    spec: &RepositorySpec,
    status: &RepositoryStatus,
    claim: &ClaimFacts,
    probe: &Runs<Probe>,
    init: &Runs<Init>,
) -> Verdict {
    if let ClaimFacts::Missing(message) = claim {
        return Verdict::ClaimMissing(message.clone());
    }
    let Some(last) = &probe.last else {
        return Verdict::Looking;
    };
    let seen = match &last.outcome {
        Ok(seen) => seen.clone(),
        // The claim is mounted, and a folder of it has not been made yet.
        Err(failure) if failure.code == "notfound.bucket" && spec.persistent_volume_claim.is_some() => Probe {
            state: "absent".to_owned(),
            ..Probe::default()
        },
        Err(failure) => return Verdict::Unreachable(failure.clone()),
    };
    match seen.state.as_str() {
        "absent" => absent(spec, status, &seen, last.uid(), init),
        "present" => present(spec, status, &seen),
        "foreign" => Verdict::NotARepository(seen.examples),
        "descriptor lost" => Verdict::DescriptorLost,
        other => Verdict::Unclear(other.to_owned()),
    }
}

/// The same where the Secret with the key is gone. A pod on a node that runs another one with that Secret still gets the key,
/// because kubelets keep immutable Secrets: so no look at the store would tell before it is too late.
pub fn without_secret(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Good => Verdict::KeyMissing(None),
        other => other,
    }
}

fn absent(spec: &RepositorySpec, status: &RepositoryStatus, seen: &Probe, probe: &str, init: &Runs<Init>) -> Verdict {
    if status.repository_id.is_some() {
        return Verdict::Vanished;
    }
    if spec.creation != Creation::CreateIfMissing || spec.access_mode != AccessMode::ReadWrite {
        return Verdict::NotFound;
    }
    if init.running.is_some() {
        return Verdict::Creating;
    }
    match init.last.as_ref().filter(|init| follows(&init.job) == Some(probe)) {
        Some(Run { outcome: Ok(_), .. }) => Verdict::Creating,
        Some(Run {
            outcome: Err(failure), ..
        }) => Verdict::CreationFailed(failure.clone()),
        // A key of the user's own has to be there; one of ours is made.
        None if spec.encryption.secret.is_some() && seen.own_key.is_none() => {
            Verdict::KeyMissing(seen.own_key_problem.clone())
        }
        None => Verdict::MayCreate,
    }
}

fn present(spec: &RepositorySpec, status: &RepositoryStatus, seen: &Probe) -> Verdict {
    let Some(id) = &seen.id else {
        return Verdict::Unclear("a repository without an id".to_owned());
    };
    if status.repository_id.as_ref().is_some_and(|ours| ours != id) {
        return Verdict::Replaced(id.clone());
    }
    let encrypted = seen.encrypted.unwrap_or(seen.kek_fingerprint.is_some());
    if encrypted == spec.encryption.none.is_some() {
        return Verdict::EncryptionMismatch { encrypted };
    }
    match (&seen.kek_fingerprint, &seen.own_key) {
        (Some(_), None) => Verdict::KeyMissing(seen.own_key_problem.clone()),
        (Some(wanted), Some(at_hand)) if wanted != at_hand => Verdict::KeyMismatch {
            at_hand: at_hand.clone(),
            wanted: wanted.clone(),
        },
        _ => Verdict::Good,
    }
}
