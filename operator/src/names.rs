//! What things are called: labels, annotations, children. Pure.
//!
//! A child never inherits its parent's labels or annotations: Argo CD, Flux and Helm mark what is theirs so, and prune
//! what bears their mark. It has our own, and those of the user's `podTemplate` on its pods.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Our field manager, and what `app.kubernetes.io/managed-by` says.
pub const MANAGER: &str = "pg-hardstorage-operator";
/// Lets a Deployment's slot be dropped before the object goes.
pub const FINALIZER: &str = "hardstorage.dev/slot";
/// Lets a Backup's data be marked as deleted before the object goes.
pub const DATA_FINALIZER: &str = "hardstorage.dev/delete-data";
/// Keeps a Restore until what it has made and not finished is gone.
pub const RESTORE_FINALIZER: &str = "hardstorage.dev/restore";
/// Where an engine pod answers.
pub const REPORT_PORT: u16 = 9187;

/// Labels.
pub mod label {
    /// What a child is for: a word of [`super::Role`].
    pub const ROLE: &str = "hardstorage.dev/role";
    /// The Repository that a child works on.
    pub const REPOSITORY: &str = "hardstorage.dev/repository";
    /// The namespace of that Repository, on Jobs whose number it limits.
    pub const REPOSITORY_NAMESPACE: &str = "hardstorage.dev/repository-namespace";
    /// The Deployment that a child belongs to.
    pub const DEPLOYMENT: &str = "hardstorage.dev/deployment";
    /// The BackupSchedule that a child belongs to.
    pub const SCHEDULE: &str = "hardstorage.dev/schedule";
    /// The Backup that a Job was made for.
    pub const BACKUP: &str = "hardstorage.dev/backup";
    /// The Restore that made something; that it may be deleted is no reason to delete this.
    pub const RESTORE: &str = "hardstorage.dev/restore";
    /// Who made it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The application.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// The part of it.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// What Kubernetes puts on the pods of a Job: the Job's UID, which is the id of the run.
    pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
}

/// Annotations.
pub mod annotation {
    /// The run that a Backup stands for: set before its Job is made, so that it never runs twice.
    pub const RUN_ID: &str = "hardstorage.dev/run-id";
    /// On a BackupSchedule: any new value starts a run.
    pub const RUN_NOW: &str = "hardstorage.dev/run-now";
    /// On a Repository: any new value reads the catalogue again.
    pub const SYNC_NOW: &str = "hardstorage.dev/sync-now";
    /// On a Backup that is deleted: its id, to mark the data as deleted too.
    pub const DELETE_DATA: &str = "hardstorage.dev/delete-data";
    /// On a Job: its result is stored, and how it ended. Such a Job is never looked at again.
    pub const STORED: &str = "hardstorage.dev/stored";
    /// On what a Restore made and nobody of ours owns: the UID of that Restore.
    pub const RESTORE_UID: &str = "hardstorage.dev/restore-uid";
    /// On a Restore that a schedule made: the time for which it was made.
    pub const DUE: &str = "hardstorage.dev/due";
    /// On a child: a hash of what it was built from, for those that cannot be changed in place.
    pub const BUILT_FROM: &str = "hardstorage.dev/built-from";
    /// On a Job: the generation of the object that it was made for.
    pub const GENERATION: &str = "hardstorage.dev/generation";
    /// On a Job: how many before it, one after the other, did not bring what was wanted.
    pub const ATTEMPT: &str = "hardstorage.dev/attempt";
    /// On a Job: the UID of the Job whose outcome it answers.
    pub const AFTER: &str = "hardstorage.dev/after";
    /// On a Job that reads a catalogue: a hash of the backups that others had told of when it was made.
    pub const NEWS: &str = "hardstorage.dev/news";
}

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The stream of WAL.
    Stream,
    /// Looks at what is at a repository's URL.
    Probe,
    /// Creates a repository.
    Init,
    /// Reads the catalogue.
    Sync,
    /// Checks a repository.
    Check,
    /// Takes a base backup.
    Backup,
    /// Applies the retention.
    Rotate,
    /// Drops a replication slot.
    SlotDrop,
    /// Marks a backup as deleted.
    Tombstone,
    /// Plans a restore.
    Plan,
    /// Restores.
    Restore,
    /// Looks at the copy of a drill.
    Drill,
}

impl Role {
    /// The word in labels and names.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Stream => "wal",
            Role::Probe => "probe",
            Role::Init => "init",
            Role::Sync => "sync",
            Role::Check => "check",
            Role::Backup => "backup",
            Role::Rotate => "rotate",
            Role::SlotDrop => "slot-drop",
            Role::Tombstone => "tombstone",
            Role::Plan => "plan",
            Role::Restore => "restore",
            Role::Drill => "drill",
        }
    }
}

/// The labels that every child has, beside those that say whose it is.
pub fn own_labels(role: Role) -> BTreeMap<String, String> {
    [
        (label::NAME, "pg-hardstorage"),
        (label::MANAGED_BY, MANAGER),
        (label::COMPONENT, role.as_str()),
        (label::ROLE, role.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The name in the repository that a Deployment has unless it says another: namespaces cannot meet there.
pub fn name_in_repository(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// The streamer's apps/v1 Deployment.
pub fn stream(name: &str) -> String {
    format!("{name}-wal")
}

/// The Secret of a key that the operator makes.
pub fn kek_secret(repository: &str) -> String {
    format!("{repository}-kek")
}

/// The Secret with the key that signs manifests; another one may sign at any time, so losing it loses nothing.
pub fn signing_secret(repository: &str) -> String {
    format!("{repository}-signing")
}

/// A Job's name: the parent's, what it does, and a hash of what makes this run another one than the last. At most 63
/// characters, for parents of at most 45.
pub fn job(parent: &str, role: Role, seed: &str) -> String {
    format!("{parent}-{}-{}", role.as_str(), short_hash(seed))
}

/// The Backup object that mirrors a backup: stable, so that a second look finds the first one's.
pub fn mirror(backup_id: &str) -> String {
    let mut parts = backup_id.rsplitn(4, '.');
    let (suffix, stamp) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let _kind = parts.next();
    let deployment = parts.next().unwrap_or_default();
    // `<namespace>.<name>`: the namespace is the mirror's own in most cases, and the hash tells the others apart.
    let name = deployment
        .split_once('.')
        .map_or(deployment, |(_, name)| name)
        .replace('.', "-");
    let cut: String = name.chars().take(32).collect();
    let stamp: String = stamp.chars().filter(char::is_ascii_digit).collect();
    format!(
        "{}-{stamp}-{suffix}{}",
        cut.trim_end_matches('-'),
        &short_hash(backup_id)[..3]
    )
}

/// Seven characters that differ for different texts: with the longest role they end a Job's name at 63.
pub fn short_hash(text: &str) -> String {
    let mut hash = hex::encode(Sha256::digest(text.as_bytes()));
    hash.truncate(7);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_what_they_name() {
        let longest = "a".repeat(45);
        for role in [
            Role::Stream,
            Role::SlotDrop,
            Role::Tombstone,
            Role::Backup,
            Role::Restore,
        ] {
            assert!(job(&longest, role, "x").len() <= 63, "{role:?}");
        }
        assert_ne!(job("a", Role::Probe, "1"), job("a", Role::Probe, "2"));
        assert!(stream(&longest).len() <= 63);
    }

    #[test]
    fn mirrors_are_told_apart_and_fit() {
        let id = "team-a.orders.full.20260625T084842Z.2dd5";
        assert_eq!(mirror(id), mirror(id));
        assert!(mirror(id).starts_with("orders-20260625084842-2dd5"), "{}", mirror(id));
        let other = "team-b.orders.full.20260625T084842Z.2dd5";
        assert_ne!(mirror(id), mirror(other));
        let long = format!(
            "{}.{}.full.20260625T084842Z.2dd5",
            "n".repeat(50),
            "d.".repeat(30) + "d"
        );
        assert!(mirror(&long).len() <= 63 && !mirror(&long).contains('.'));
    }
}
