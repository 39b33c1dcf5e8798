//! What controllers and kubelets would do: ReplicaSets and pods of streams, pods and ends of Jobs.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stand_in::{Role, StandIn, address};
use crate::world::{World, name, namespace, text, until};

/// The longest wait for a child.
const PATIENCE: Duration = Duration::from_mins(5);
/// Streams among the operator's children.
const STREAMS: &str = "hardstorage.dev/role=wal";

fn owned(owner: &Value, api_version: &str, kind: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": text(owner, "name"), "uid": text(owner, "uid"),
        "controller": true}])
}

fn status(kind: &str, api_version: &str, object: &Value, status: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": text(object, "name"), "namespace": text(object, "namespace")}, "status": status})
}

impl World {
    /// A ReplicaSet and a running pod for each stream that the operator has made.
    pub fn pods_of_streams(&self, count: usize) {
        until("the operator makes every stream", PATIENCE * 4, || {
            self.list("deployments.apps", STREAMS).len() == count
        });
        let child = |owner: &Value, kind: &str, api_version: &str, of: &str, of_version: &str, spec: Value| {
            json!({"apiVersion": api_version, "kind": kind,
                "metadata": {"name": text(owner, "name"), "namespace": text(owner, "namespace"),
                    "labels": owner["metadata"]["labels"], "ownerReferences": owned(owner, of_version, of)},
                "spec": spec})
        };
        let sets: Vec<Value> = self
            .list("deployments.apps", STREAMS)
            .iter()
            .map(|stream| {
                let spec = json!({"replicas": 1, "selector": stream["spec"]["selector"], "template": stream["spec"]["template"]});
                child(stream, "ReplicaSet", "apps/v1", "Deployment", "apps/v1", spec)
            })
            .collect();
        self.write(&sets, false);
        let pods: Vec<Value> = self
            .list("replicasets.apps", STREAMS)
            .iter()
            .map(|set| {
                let mut spec = set["spec"]["template"]["spec"].clone();
                // Nothing here makes the default account.
                spec["serviceAccountName"] = json!("default");
                child(set, "Pod", "v1", "ReplicaSet", "apps/v1", spec)
            })
            .collect();
        self.accounts();
        self.write(&pods, false);
        let running: Vec<Value> = (0..count)
            .map(|n| {
                let pod = json!({"metadata": {"name": format!("{}-wal", name(n)), "namespace": namespace(n)}});
                status("Pod", "v1", &pod, &running_at(address(n)))
            })
            .collect();
        self.write(&running, true);
    }

    /// The account that every pod has.
    fn accounts(&self) {
        let all: Vec<Value> = self
            .list("namespaces", "")
            .iter()
            .map(|one| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": text(one, "name")}}))
            .collect();
        self.write(&all, false);
    }

    /// Runs the newest Job of a role to its end.
    pub fn run_job(&self, role: &str, stand_in: &StandIn, at: Ipv4Addr, result: Value) {
        let selector = format!("hardstorage.dev/role={role}");
        until(&format!("a Job to {role}"), PATIENCE, || {
            !self.list("jobs.batch", &selector).is_empty()
        });
        let job = self.list("jobs.batch", &selector).remove(0);
        let uid = text(&job, "uid");
        stand_in.put(at, Role::Run(uid.clone(), result));
        self.accounts();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "backup", "namespace": "default"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": text(&job, "name"), "namespace": text(&job, "namespace"),
                "labels": {"batch.kubernetes.io/controller-uid": uid}, "ownerReferences": owned(&job, "batch/v1", "Job")},
            "spec": job["spec"]["template"]["spec"]});
        self.write(&[account], false);
        self.write(std::slice::from_ref(&pod), false);
        self.write(&[status("Pod", "v1", &pod, &running_at(at))], true);
        until(&format!("{role} is heard"), PATIENCE, || stand_in.was_heard(&uid));
        let began = text(&job, "creationTimestamp");
        let conditions: Vec<Value> = ["SuccessCriteriaMet", "Complete"]
            .iter()
            .map(|type_| json!({"type": type_, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": began}))
            .collect();
        let over = json!({"startTime": began, "completionTime": began, "succeeded": 1, "active": 0, "ready": 0,
            "conditions": conditions});
        self.write(&[status("Job", "batch/v1", &job, &over)], true);
    }
}

fn running_at(ip: Ipv4Addr) -> Value {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    json!({"phase": "Running", "podIP": ip.to_string(), "podIPs": [{"ip": ip.to_string()}], "conditions": ready})
}
