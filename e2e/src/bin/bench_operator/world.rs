//! The API server and what lies in it.

use std::fs;
use std::time::{Duration, Instant};

use hardstorage_e2e::{ApiServer, tree};
use serde_json::{Value, json};

use crate::stand_in::{REPOSITORY, Role, StandIn, address};

/// Deployments in one namespace.
const IN_NAMESPACE: usize = 10;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// A cluster without nodes.
pub struct World {
    /// Its API server.
    pub server: ApiServer,
}

impl World {
    /// With our definitions.
    pub fn new() -> World {
        let server = ApiServer::start();
        server.define(&tree("crds"));
        World { server }
    }

    fn kubectl(&self, words: &[&str]) -> String {
        self.server.kubectl(words).ok().stdout
    }

    /// Lists a kind everywhere.
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "-A", "-l", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Makes objects, or sets their status.
    pub fn write(&self, objects: &[Value], status: bool) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let path = self.server.scratch().path("objects.json");
        fs::write(&path, list.to_string()).unwrap();
        let file = path.to_str().unwrap();
        let mut words = vec!["apply", "--server-side", "--force-conflicts", "-f", file];
        if status {
            words.push("--subresource=status");
        }
        self.kubectl(&words);
    }

    /// The Repository that all use, looked at and read by two runs.
    pub fn repository(&self, stand_in: &StandIn) {
        let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
            "metadata": {"name": "main", "namespace": "default"},
            "spec": {"url": "s3://backups/all", "credentials": {"serviceAccountName": "backup"},
                "encryption": {"none": {}}, "allowedNamespaces": {"from": "All"}}});
        self.write(&[object], false);
        let seen = json!({"state": "present", "id": REPOSITORY, "encrypted": false, "create_only_proven": true});
        self.run_job("probe", stand_in, address(10_000), seen);
        let read = json!({"id": REPOSITORY, "total_bytes": 1, "deployments": {}});
        self.run_job("sync", stand_in, address(10_001), read);
    }

    /// The objects that a user writes.
    pub fn deployments(&self, count: usize) {
        let namespaces: Vec<Value> = (0..count.div_ceil(IN_NAMESPACE))
            .map(
                |n| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(n * IN_NAMESPACE)}}),
            )
            .collect();
        self.write(&namespaces, false);
        let reference = json!({"name": "main", "namespace": "default"});
        // Nothing here runs the Jobs of one, which would be asked all the time.
        let retention = json!({"suspend": true});
        let objects: Vec<Value> = (0..count)
            .flat_map(|n| {
                let metadata = json!({"name": name(n), "namespace": namespace(n)});
                let source = json!({"connection": {"hosts": [{"host": format!("db-{n}.example")}], "user": "backup"}});
                [
                    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment", "metadata": metadata,
                        "spec": {"source": source, "repositoryRef": reference, "retention": retention}}),
                    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "BackupSchedule", "metadata": metadata,
                        "spec": {"deploymentRef": {"name": name(n)}, "schedule": "@daily-random"}}),
                ]
            })
            .collect();
        self.write(&objects, false);
    }

    /// How many Deployments have this answer to whether they stream.
    pub fn streaming(&self, wanted: &str) -> usize {
        let path = r#"{range .items[*]}{.status.conditions[?(@.type=="Streaming")].status}{"\n"}{end}"#;
        let text = self.kubectl(&["get", "hsdeployments", "-A", "-o", &format!("jsonpath={path}")]);
        text.lines().filter(|line| *line == wanted).count()
    }

    /// How many Backups there are, without reading them: whoever counts must not be what the API server is busy with.
    pub fn backups(&self) -> usize {
        let path = "/apis/hardstorage.dev/v1alpha1/hsbackups?limit=1";
        let page: Value = serde_json::from_str(&self.kubectl(&["get", "--raw", path])).unwrap();
        let here = page["items"].as_array().map_or(0, Vec::len);
        here + page["metadata"]["remainingItemCount"].as_u64().unwrap_or_default() as usize
    }

    /// Requests of these verbs that the API server has answered for what the operator looks after, its Lease left out.
    fn requests(&self, verbs: &[&str]) -> u64 {
        let metrics = self.kubectl(&["get", "--raw", "/metrics"]);
        let counted = metrics.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
                && [
                    "hardstorage.dev",
                    "apps",
                    "batch",
                    "networking.k8s.io",
                    "events.k8s.io",
                    "",
                ]
                .iter()
                .any(|group| line.contains(&format!("group=\"{group}\"")))
                && !line.contains(",resource=\"\"")
        });
        counted
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.requests(&["POST", "PUT", "PATCH", "APPLY", "DELETE"])
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.requests(&["GET", "LIST"])
    }

    /// Waits until nothing was written for a while; how long that took.
    pub fn until_quiet(&self, quiet: Duration, patience: Duration) -> Duration {
        let began = Instant::now();
        let mut last = (self.writes(), Instant::now());
        until("nothing is written any more", patience, || {
            let now = self.writes();
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() >= quiet
        });
        began.elapsed().saturating_sub(quiet)
    }

    /// A pod for each stream.
    pub fn pods(&self, count: usize, stand_in: &StandIn) {
        let mut uids = std::collections::HashMap::new();
        for object in self.list("hsdeployments", "") {
            uids.insert(
                (text(&object, "namespace"), text(&object, "name")),
                text(&object, "uid"),
            );
        }
        for n in 0..count {
            let uid = &uids[&(namespace(n), name(n))];
            stand_in.put(
                address(n),
                Role::Stream(uid.clone(), format!("{}.{}", namespace(n), name(n))),
            );
        }
        self.pods_of_streams(count);
    }
}

/// Looks until it is so, now and then: each look costs the API server more than the operator does in that time.
pub fn until(what: &str, patience: Duration, mut look: impl FnMut() -> bool) {
    hardstorage_e2e::until(what, patience, || {
        let is_so = look();
        if !is_so {
            std::thread::sleep(PAUSE);
        }
        is_so.then_some(())
    });
}

/// The namespace of the n-th Deployment.
pub fn namespace(n: usize) -> String {
    format!("team-{}", n / IN_NAMESPACE)
}

/// Its name.
pub fn name(n: usize) -> String {
    format!("orders-{}", n % IN_NAMESPACE)
}

/// A word of an object's metadata.
pub fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}
