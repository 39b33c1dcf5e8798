//! What we read of a CloudNativePG Cluster: little, and each field by itself, so that a Cluster of a later version with a
//! field of another shape is still read.

use serde_json::Value;

/// The annotation with the instances that are fenced.
const FENCED: &str = "cnpg.io/fencedInstances";
/// The annotation, and the condition, of a Cluster that sleeps.
const HIBERNATION: &str = "cnpg.io/hibernation";

/// A Cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The whole spec, for the snapshot.
    pub spec: Value,
    /// Its state in CloudNativePG's words.
    pub phase: Option<String>,
    /// Why.
    pub phase_reason: Option<String>,
    /// The instance that is the primary.
    pub current_primary: Option<String>,
    /// The instance that should be.
    pub target_primary: Option<String>,
    /// The Service of the primary.
    pub write_service: Option<String>,
    /// The Secret with the servers' authority.
    pub server_ca: Option<String>,
    /// The Secret with the certificate of `streaming_replica`.
    pub replication_tls: Option<String>,
    /// PostgreSQL's system identifier.
    pub system_id: Option<String>,
    /// The image that runs.
    pub image: Option<String>,
    /// The major version of the data.
    pub major: Option<i64>,
    /// Instances that are ready.
    pub ready_instances: i64,
    /// Processor architectures that it can run on.
    pub architectures: Vec<String>,
    /// Whether it sleeps.
    pub hibernated: bool,
    /// Whether it should.
    pub hibernation_wanted: bool,
    /// Instances that are fenced; `*` is all.
    pub fenced: Vec<String>,
}

impl Cluster {
    /// Reads one.
    pub fn of(object: &Value) -> Cluster {
        let text = |path: &str| {
            let found = object.pointer(path).and_then(Value::as_str);
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let annotation = |name: &str| {
            let all = object.pointer("/metadata/annotations");
            all.and_then(|all| all.get(name)).and_then(Value::as_str)
        };
        let list = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let hibernated = list("/status/conditions").iter().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some(HIBERNATION)
                && condition.get("status").and_then(Value::as_str) == Some("True")
        });
        // A list in JSON; what does not read as one fences nobody for CloudNativePG either.
        let fenced = annotation(FENCED)
            .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok())
            .unwrap_or_default();
        Cluster {
            name: text("/metadata/name").unwrap_or_default(),
            uid: text("/metadata/uid"),
            deleting: text("/metadata/deletionTimestamp").is_some(),
            spec: object.get("spec").cloned().unwrap_or(Value::Null),
            phase: text("/status/phase"),
            phase_reason: text("/status/phaseReason"),
            current_primary: text("/status/currentPrimary"),
            target_primary: text("/status/targetPrimary"),
            write_service: text("/status/writeService"),
            server_ca: text("/status/certificates/serverCASecret"),
            replication_tls: text("/status/certificates/replicationTLSSecret"),
            system_id: text("/status/systemID"),
            image: text("/status/image").or_else(|| text("/spec/imageName")),
            major: object
                .pointer("/status/pgDataImageInfo/majorVersion")
                .and_then(Value::as_i64),
            ready_instances: object
                .pointer("/status/readyInstances")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            architectures: list("/status/availableArchitectures")
                .iter()
                .filter_map(|one| one.get("goArch").and_then(Value::as_str))
                .map(str::to_owned)
                .collect(),
            hibernated,
            hibernation_wanted: annotation(HIBERNATION) == Some("on"),
            fenced,
        }
    }

    /// Whether it follows another cluster: then its primary is a standby.
    pub fn is_replica(&self) -> bool {
        let replica = self.spec.get("replica");
        let field = |name: &str| replica.and_then(|replica| replica.get(name));
        if let Some(enabled) = field("enabled").and_then(Value::as_bool) {
            return enabled;
        }
        // A distributed topology: the one that is named leads, the others follow.
        let leads = field("primary").and_then(Value::as_str);
        let me = field("self").and_then(Value::as_str).unwrap_or(&self.name);
        leads.is_some_and(|leads| !leads.is_empty() && leads != me)
    }

    /// Whether it belongs to several that follow each other: its primary may be a standby although the spec says no more, or
    /// not yet, that it follows. A promotion takes its time.
    pub fn may_follow(&self) -> bool {
        self.spec.get("replica").is_some_and(Value::is_object)
    }

    /// Whether the primary is fenced.
    pub fn is_fenced(&self) -> bool {
        self.fenced
            .iter()
            .any(|one| one == "*" || Some(one) == self.current_primary.as_ref())
    }

    /// Whether the Service of the standbys is there.
    pub fn has_standby_service(&self) -> bool {
        let disabled = self.spec.pointer("/managed/services/disabledDefaultServices");
        let disabled = disabled.and_then(Value::as_array).cloned().unwrap_or_default();
        !disabled.iter().any(|one| one.as_str() == Some("ro"))
    }

    /// PostgreSQL's version: the image's, when it says more than the major version that the data has.
    pub fn version(&self) -> Option<String> {
        let major = self.major.map(|major| major.to_string());
        let tag = self.image.as_deref().and_then(version_of_image);
        match (major, tag) {
            (Some(major), Some(tag)) if super::major(&tag).map(|tag| tag.to_string()) == Some(major.clone()) => {
                Some(tag)
            }
            (Some(major), _) => Some(major),
            (None, tag) => tag,
        }
    }
}

/// `ghcr.io/x/postgresql:18.4-system-trixie@sha256:…` is 18.4.
fn version_of_image(image: &str) -> Option<String> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let end = tag.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(tag.len());
    let version = tag[..end].trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_that_of_the_data() {
        let version = |image: &str, major: Value| {
            Cluster::of(&json!({"status": {"image": image, "pgDataImageInfo": {"majorVersion": major}}})).version()
        };
        assert_eq!(
            version("ghcr.io/x/postgresql:18.4-system-trixie", json!(18)).as_deref(),
            Some("18.4")
        );
        assert_eq!(
            version("host:5000/postgres:18@sha256:ab", json!(18)).as_deref(),
            Some("18")
        );
        // While it is upgraded, the image is ahead of the data.
        assert_eq!(version("postgres:18.4", json!(17)).as_deref(), Some("17"));
        assert_eq!(version("host:5000/postgres", json!(16)).as_deref(), Some("16"));
        assert_eq!(version("postgres:latest", Value::Null), None);
    }

    #[test]
    fn what_has_another_shape_spoils_nothing_else() {
        let strange = json!({"metadata": {"name": "shop", "annotations": {FENCED: "no list"}},
            "spec": {"replica": "yes", "instances": "two"},
            "status": {"conditions": {"Ready": true}, "readyInstances": "2", "currentPrimary": "shop-1",
                "certificates": []}});
        let cluster = Cluster::of(&strange);
        assert_eq!(cluster.current_primary.as_deref(), Some("shop-1"));
        assert!(!cluster.is_replica() && !cluster.is_fenced() && !cluster.hibernated);
        assert_eq!((cluster.ready_instances, cluster.server_ca), (0, None));
    }

    #[test]
    fn who_follows_whom() {
        let follows = |replica: Value| {
            Cluster::of(&json!({"metadata": {"name": "eu"}, "spec": {"replica": replica}})).is_replica()
        };
        for (replica, wanted) in [
            (json!({"enabled": true, "source": "us"}), true),
            (json!({"enabled": false, "source": "us"}), false),
            (json!({"primary": "us", "source": "us"}), true),
            (json!({"primary": "eu", "source": "us"}), false),
            (json!({"primary": "us", "self": "us", "source": "eu"}), false),
            (Value::Null, false),
        ] {
            assert_eq!(follows(replica.clone()), wanted, "{replica}");
            let cluster = Cluster::of(&json!({"spec": {"replica": replica}}));
            assert_eq!(cluster.may_follow(), replica.is_object(), "{replica}");
        }
    }
}
