//! What Patroni has kept in Kubernetes of an older cluster of the same scope. Pure.
//!
//! It outlives StatefulSet and claims, and nobody owns it. Tried with 4.1.5: a member whose system identifier is another one
//! than `initialize` ends at once; one whose WAL ends more than `maximum_lag_on_failover` before `optime` never becomes the
//! leader, and a restore to an earlier moment is just that; members that `sync` does not name do not either. With these three
//! out of the way it leads within seconds, and goes on with the configuration that was kept.

use std::collections::BTreeMap;

/// One of the objects that Patroni keeps, with its annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// `endpoints` or `configmap`, as in a command line.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The objects of a scope: kind, and what follows the scope. Patroni uses Endpoints or `ConfigMaps`.
pub const OBJECTS: [(&str, &str); 6] = [
    ("endpoints", ""),
    ("configmap", "-leader"),
    ("endpoints", "-config"),
    ("configmap", "-config"),
    ("endpoints", "-sync"),
    ("configmap", "-sync"),
];

/// Of whom they speak: while one of them is there, the restored member would wait for another.
const OF_MEMBERS: [&str; 3] = ["leader", "optime", "sync_standby"];

/// What is in the way, each with the command that takes it out; `system` is the restored database's identifier.
pub fn in_the_way(kept: &[Kept], namespace: &str, system: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for object in kept {
        let there = |name: &str| object.annotations.get(name).filter(|value| !value.is_empty());
        let (mut said, mut words) = (Vec::new(), Vec::new());
        for name in OF_MEMBERS {
            if let Some(value) = there(name) {
                said.push(format!("{name} {value}"));
                words.push(format!("{name}-"));
            }
        }
        if let Some(other) = there("initialize").filter(|known| *known != system) {
            said.push(format!(
                "initialize {other}, which is another database's system identifier"
            ));
            words.push(format!("initialize={system} history- --overwrite"));
        }
        if said.is_empty() {
            continue;
        }
        let (kind, name) = (object.kind, &object.name);
        all.push((
            format!("{kind} {name} says {}", said.join(", ")),
            format!("kubectl annotate {kind} {name} -n {namespace} {}", words.join(" ")),
        ));
    }
    all
}
