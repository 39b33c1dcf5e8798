//! Which cluster is protected, when the one behind the source has become another: its system identifier tells. Pure.
//!
//! CloudNativePG's major upgrade in place makes a new cluster of the old one, with the same object and a higher version:
//! that is planned, and its WAL begins a lineage with a name of its own. A cluster that was deleted and made again, or a
//! name that leads elsewhere, is not, and `onNewSystem` decides. Nothing is ever written over what is there: the engine
//! refuses a second cluster under one name by itself.

use hardstorage_crds::{Lineage, OnNewSystem, SourceStatus};

use super::identity::lineage_name;
use super::source::major;

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct SystemFacts<'a> {
    /// The name in the repository, without a system identifier.
    pub base: &'a str,
    /// What was protected so far.
    pub lineages: &'a [Lineage],
    /// What the user wants.
    pub on_new_system: &'a OnNewSystem,
    /// The source when its cluster was the current one.
    pub before: Option<&'a SourceStatus>,
    /// The cluster behind the source now, when it is known.
    pub system_identifier: Option<&'a str>,
    /// UID of the object that describes it.
    pub cluster_uid: Option<&'a str>,
    /// Its version.
    pub version: Option<&'a str>,
    /// Whether the stream was refused, because another cluster lies under its name.
    pub conflict: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Systems {
    /// It is the same, or not known yet.
    Same,
    /// These are the lineages from now on; the current one is new.
    Changed(Vec<Lineage>),
    /// It is another one, and nobody has agreed to that.
    Refused(String),
}

/// Compares.
pub fn judge(facts: &SystemFacts<'_>) -> Systems {
    let Some(now) = facts.system_identifier.filter(|id| !id.is_empty()) else {
        return Systems::Same;
    };
    let current = facts.lineages.iter().find(|lineage| lineage.current);
    match current {
        // Found under the plain name: somebody protected another cluster before this object, or its status, was there.
        Some(current) if current.system_identifier == now && facts.conflict && current.name == facts.base => {
            if *facts.on_new_system == OnNewSystem::NewLineage {
                let others = facts.lineages.iter().filter(|lineage| !lineage.current).cloned();
                let next = Lineage {
                    name: lineage_name(facts.base, now),
                    ..current.clone()
                };
                Systems::Changed(others.chain([next]).collect())
            } else {
                Systems::Refused(refusal(
                    facts,
                    now,
                    "another cluster, whose backups lie under this name",
                ))
            }
        }
        Some(current) if current.system_identifier == now => Systems::Same,
        // The first one has the plain name.
        None if facts.lineages.is_empty() => Systems::Changed(vec![Lineage {
            name: facts.base.to_owned(),
            system_identifier: now.to_owned(),
            current: true,
        }]),
        _ if is_planned(facts) || *facts.on_new_system == OnNewSystem::NewLineage => {
            Systems::Changed(followed_by(facts, now))
        }
        other => {
            let was = other.map_or("another cluster", |current| current.system_identifier.as_str());
            Systems::Refused(refusal(facts, now, was))
        }
    }
}

fn refusal(facts: &SystemFacts<'_>, now: &str, was: &str) -> String {
    format!(
        "the server is now the cluster with the system identifier {now}, it was {was}. Nothing is written until somebody has \
         looked: if that is right, set onNewSystem to NewLineage, and its backups begin under {}",
        lineage_name(facts.base, now)
    )
}

/// The same object, with a higher major version: it was upgraded in place.
fn is_planned(facts: &SystemFacts<'_>) -> bool {
    let Some(before) = facts.before else { return false };
    let same_object = before.cluster_uid.is_some() && before.cluster_uid.as_deref() == facts.cluster_uid;
    let was = before.postgres_version.as_deref().and_then(major);
    let is = facts.version.and_then(major);
    same_object && was.zip(is).is_some_and(|(was, is)| is > was)
}

fn followed_by(facts: &SystemFacts<'_>, now: &str) -> Vec<Lineage> {
    let mut all = facts.lineages.to_vec();
    for lineage in &mut all {
        lineage.current = lineage.system_identifier == now;
    }
    // One that was protected before goes on under its old name.
    if !all.iter().any(|lineage| lineage.current) {
        all.push(Lineage {
            name: lineage_name(facts.base, now),
            system_identifier: now.to_owned(),
            current: true,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "test code")]
    use super::*;

    fn lineage(name: &str, id: &str, current: bool) -> Lineage {
        Lineage {
            name: name.into(),
            system_identifier: id.into(),
            current,
        }
    }

    fn source(uid: &str, version: &str) -> SourceStatus {
        SourceStatus {
            cluster_uid: Some(uid.into()),
            postgres_version: Some(version.into()),
            ..SourceStatus::default()
        }
    }

    #[test]
    fn the_same_system_or_none() {
        let lineages = [lineage("team.orders", "1", true)];
        let before = source("u", "18");
        let mut facts = SystemFacts {
            base: "team.orders",
            lineages: &lineages,
            on_new_system: &OnNewSystem::Refuse,
            before: Some(&before),
            system_identifier: Some("1"),
            cluster_uid: Some("u"),
            version: Some("18"),
            conflict: false,
        };
        assert_eq!(judge(&facts), Systems::Same);
        for unknown in [None, Some("")] {
            facts.system_identifier = unknown;
            assert_eq!(judge(&facts), Systems::Same);
        }
        facts.lineages = &[];
        facts.system_identifier = Some("1");
        assert_eq!(judge(&facts), Systems::Changed(vec![lineage("team.orders", "1", true)]));
    }

    #[test]
    fn an_upgrade_in_place_is_planned_and_nothing_else_is() {
        let lineages = [lineage("team.orders", "1", true)];
        let cases = [
            // before, now: (uid, version), policy, agreed
            (("u", "15.19"), (Some("u"), Some("18")), OnNewSystem::Refuse, true),
            (("u", "18"), (Some("u"), Some("18.6")), OnNewSystem::Refuse, false),
            (("u", "18"), (Some("u"), Some("15")), OnNewSystem::Refuse, false),
            (("u", "15"), (Some("v"), Some("18")), OnNewSystem::Refuse, false),
            (("u", "15"), (None, Some("18")), OnNewSystem::Refuse, false),
            (("u", "15"), (Some("u"), None), OnNewSystem::Refuse, false),
            (("u", "18"), (Some("v"), Some("18")), OnNewSystem::NewLineage, true),
            (
                ("u", "18"),
                (Some("v"), Some("18")),
                OnNewSystem::Other("Perhaps".into()),
                false,
            ),
        ];
        for ((uid, version), (uid_now, version_now), policy, agreed) in cases {
            let before = source(uid, version);
            let facts = SystemFacts {
                base: "team.orders",
                lineages: &lineages,
                on_new_system: &policy,
                before: Some(&before),
                system_identifier: Some("2"),
                cluster_uid: uid_now,
                version: version_now,
                conflict: true,
            };
            match judge(&facts) {
                Systems::Changed(all) if agreed => assert_eq!(
                    all,
                    [lineage("team.orders", "1", false), lineage("team.orders.2", "2", true)]
                ),
                Systems::Refused(message) if !agreed => assert!(message.contains("team.orders.2"), "{message}"),
                other => panic!("{uid} {version} -> {uid_now:?} {version_now:?} {policy}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_that_comes_back_goes_on_under_its_name() {
        let lineages = [lineage("team.orders", "1", false), lineage("team.orders.2", "2", true)];
        let facts = SystemFacts {
            base: "team.orders",
            lineages: &lineages,
            on_new_system: &OnNewSystem::NewLineage,
            before: None,
            system_identifier: Some("1"),
            cluster_uid: None,
            version: None,
            conflict: false,
        };
        let wanted = vec![lineage("team.orders", "1", true), lineage("team.orders.2", "2", false)];
        assert_eq!(judge(&facts), Systems::Changed(wanted));
    }

    #[test]
    fn what_another_object_left_under_the_name_is_left_alone() {
        let lineages = [lineage("team.orders", "2", true)];
        let judged = |policy: &OnNewSystem| {
            judge(&SystemFacts {
                base: "team.orders",
                lineages: &lineages,
                on_new_system: policy,
                before: None,
                system_identifier: Some("2"),
                cluster_uid: None,
                version: None,
                conflict: true,
            })
        };
        assert!(matches!(judged(&OnNewSystem::Refuse), Systems::Refused(_)));
        let agreed = judged(&OnNewSystem::NewLineage);
        assert_eq!(agreed, Systems::Changed(vec![lineage("team.orders.2", "2", true)]));
    }
}
