//! A restore for a cluster that Patroni runs: the claim of its first member is made and filled, and nothing of the cluster is
//! changed. Whoever owns the StatefulSet, or the object of Zalando's or Crunchy's operator, starts it on that claim; the
//! status says how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NewClaim, directory};
use crate::reference::object_name;
use crate::rules::rule;
use crate::source::Flavor;

/// The claim of the first member of a cluster that Patroni runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = rule(
        "self.flavor != 'Plain' || has(self.statefulSet) && has(self.claim)",
        "patroni of flavor Plain has statefulSet, and claim, the name of its volumeClaimTemplate: CLAIM-STATEFULSET-0 is filled",
    ),
    transform = rule(
        "self.flavor != 'Zalando' || has(self.statefulSet) && !has(self.claim)",
        "patroni of flavor Zalando has statefulSet, the name of the postgresql object, and no claim: pgdata-STATEFULSET-0 is filled",
    ),
    transform = rule(
        "self.flavor != 'Crunchy' || has(self.claim) && !has(self.statefulSet)",
        "patroni of flavor Crunchy has claim, its whole name, and no statefulSet: their operator takes any claim, and names its own sets",
    ),
    transform = rule(
        "!has(self.scope) || self.flavor == 'Plain'",
        "patroni.scope is for flavor Plain: the others' scope is the name of their object",
    ),
)]
pub struct PatroniDestination {
    /// Who runs Patroni: Plain, Zalando or Crunchy; default Plain.
    #[serde(default)]
    pub flavor: Flavor,
    /// Name of the StatefulSet, which is not there yet or has no replicas. For Zalando the name of the postgresql object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub stateful_set: Option<String>,
    /// Plain: the name of the volumeClaimTemplate that holds the data; CLAIM-STATEFULSET-0 is made and filled. Crunchy: the
    /// whole name of the claim that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub claim: Option<String>,
    /// Patroni's scope, by which what it has kept of an older cluster is found; default: the name of the StatefulSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub scope: Option<String>,
    /// How the claim is made; it must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<NewClaim>,
    /// The data directory, from the root of the volume; default: pgdata for Plain and Crunchy, pgroot/data for Zalando.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = directory)]
    pub path: Option<String>,
    /// User that PostgreSQL runs as; default: the one that was recorded with the backup, otherwise 999 for Plain, 101 for
    /// Zalando, 26 for Crunchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: Option<i64>,
    /// Its group; default: the one that was recorded with the backup, otherwise 999 for Plain, 103 for Zalando, 26 for
    /// Crunchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: Option<i64>,
}
