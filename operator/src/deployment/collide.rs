//! Two Deployments that want the same thing: the same name in one repository, or one source twice into it. The older one
//! has it, whatever the order in which they are seen; the other says so and starts nothing. Pure.
//!
//! One source into two repositories is none of this: it is how a second copy is kept. Each has a slot of its own.

use hardstorage_crds::{ProtectedDeployment, Source};
use kube::ResourceExt as _;

use super::identity::{belongs, name, slot};

/// What is taken, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// `NameTaken` or `SourceTaken`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Whether an older one has what this one wants.
pub fn collision<'a>(
    me: &ProtectedDeployment,
    all: impl IntoIterator<Item = &'a ProtectedDeployment>,
) -> Option<Collision> {
    let mine = Wants::of(me);
    let mut found: Option<(&ProtectedDeployment, Collision)> = None;
    for other in all {
        if other.uid() == me.uid() || !is_older(other, me) {
            continue;
        }
        let theirs = Wants::of(other);
        let who = format!(
            "the Deployment {}/{}",
            other.namespace().unwrap_or_default(),
            other.name_any()
        );
        let same_repository = mine.repository == theirs.repository;
        let hit = if same_repository && (belongs(&mine.name, &theirs.name) || belongs(&theirs.name, &mine.name)) {
            Some(Collision {
                reason: "NameTaken",
                message: format!(
                    "{who} has the name {} in this repository; choose another nameInRepository",
                    theirs.name
                ),
            })
        } else if mine.source == theirs.source && (same_repository || mine.slot == theirs.slot) {
            Some(Collision {
                reason: "SourceTaken",
                message: format!(
                    "{who} protects the same source; delete one of them, or give this one a Repository and a slot of its own"
                ),
            })
        } else {
            None
        };
        // Of several the oldest is named, so that the sentence does not change from look to look.
        if let Some(hit) = hit
            && found.as_ref().is_none_or(|(first, _)| is_older(other, first))
        {
            found = Some((other, hit));
        }
    }
    found.map(|(_, collision)| collision)
}

struct Wants {
    repository: (String, String),
    name: String,
    source: Option<String>,
    slot: String,
}

impl Wants {
    fn of(deployment: &ProtectedDeployment) -> Wants {
        let namespace = deployment.namespace().unwrap_or_default();
        let reference = &deployment.spec.repository_ref;
        let home = reference.namespace.clone().unwrap_or_else(|| namespace.clone());
        Wants {
            repository: (home, reference.name.clone()),
            name: name(deployment),
            source: source(&namespace, &deployment.spec.source),
            slot: slot(deployment),
        }
    }
}

/// What makes a source this one and no other.
fn source(namespace: &str, source: &Source) -> Option<String> {
    if let Some(cluster) = &source.cloud_native_pg {
        return Some(format!("cluster {namespace}/{}", cluster.cluster));
    }
    if let Some(patroni) = &source.patroni {
        return Some(format!("patroni {namespace}/{}/{}", patroni.flavor, patroni.scope));
    }
    let mut hosts: Vec<String> = source
        .connection
        .as_ref()?
        .hosts
        .iter()
        .map(|host| {
            // A short name means another server in another namespace.
            let is_full = host.host.contains('.') || host.host.contains(':');
            let within = if is_full { "" } else { namespace };
            format!("{within}/{}:{}", host.host, host.port)
        })
        .collect();
    hosts.sort();
    Some(hosts.join(","))
}

fn is_older(one: &ProtectedDeployment, other: &ProtectedDeployment) -> bool {
    let age = |object: &ProtectedDeployment| {
        (
            object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            object.uid(),
        )
    };
    age(one) < age(other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::samples::with_spec;
    use super::*;
    use serde_json::{Value, json};

    fn object(namespace: &str, name: &str, second: u32, spec: Value) -> ProtectedDeployment {
        let mut object = with_spec(namespace, name, spec);
        let time = format!("2026-01-01T00:00:{second:02}Z");
        object.metadata.creation_timestamp = Some(serde_json::from_value(json!(time)).unwrap());
        object
    }

    fn spec(cluster: &str, repository: &str) -> Value {
        json!({"source": {"cloudNativePG": {"cluster": cluster}}, "repositoryRef": {"name": repository}})
    }

    #[test]
    fn the_older_one_has_it_in_any_order() {
        let old = object("team", "a", 1, spec("shop", "main"));
        let young = object("team", "b", 2, spec("shop", "main"));
        for all in [[&old, &young], [&young, &old]] {
            assert_eq!(collision(&old, all), None);
            let hit = collision(&young, all).unwrap();
            assert_eq!(hit.reason, "SourceTaken");
            assert!(hit.message.contains("team/a"), "{}", hit.message);
        }
        // Of the same second: by UID, the same from both sides.
        let twin = object("team", "c", 1, spec("shop", "main"));
        let both = [&old, &twin];
        assert_eq!(collision(&old, both).is_some(), collision(&twin, both).is_none());
    }

    #[test]
    fn names_and_sources() {
        let old = object("team", "a", 1, spec("shop", "main"));
        let named = |name: &str, repository: Value| {
            let mut spec = spec("other", "main");
            spec["nameInRepository"] = json!(name);
            spec["repositoryRef"] = repository;
            let young = object("qa", "b", 2, spec);
            collision(&young, [&old]).map(|hit| hit.reason)
        };
        let same = json!({"name": "main", "namespace": "team"});
        assert_eq!(named("team.a", same.clone()), Some("NameTaken"));
        assert_eq!(
            named("team.a.77", same.clone()),
            Some("NameTaken"),
            "the name of its next lineage"
        );
        assert_eq!(named("team.ab", same), None);
        assert_eq!(named("team.a", json!({"name": "main"})), None, "another repository");
        // Into a second repository: a second copy.
        assert_eq!(collision(&object("team", "b", 2, spec("shop", "second")), [&old]), None);
        let mut slots = [spec("shop", "main"), spec("shop", "second")];
        for spec in &mut slots {
            spec["stream"] = json!({"slotName": "same"});
        }
        let [one, two] = slots;
        let hit = collision(&object("team", "b", 2, two), [&object("team", "a", 1, one)]);
        assert_eq!(hit.unwrap().reason, "SourceTaken", "two streams cannot share a slot");
    }

    #[test]
    fn hosts_are_the_same_in_any_order() {
        let on = |namespace: &str, second, hosts: Value| {
            let spec = json!({"source": {"connection": {"hosts": hosts, "user": "u"}},
                "repositoryRef": {"name": "main", "namespace": "x"}});
            object(namespace, &format!("n{second}"), second, spec)
        };
        let old = on(
            "team",
            1,
            json!([{"host": "db1.example.com"}, {"host": "db2.example.com", "port": 5433}]),
        );
        let same = on(
            "qa",
            2,
            json!([{"host": "db2.example.com", "port": 5433}, {"host": "db1.example.com"}]),
        );
        assert!(collision(&same, [&old]).is_some());
        let short = on("team", 1, json!([{"host": "db"}]));
        assert_eq!(collision(&on("qa", 2, json!([{"host": "db"}])), [&short]), None);
        assert!(collision(&on("team", 2, json!([{"host": "db"}])), [&short]).is_some());
    }
}
