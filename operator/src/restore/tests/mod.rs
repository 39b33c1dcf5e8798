//! Restores on an API server that remembers: Deployment `orders` that streams into Repository `main`, and what the Job
//! controller, the engine and CloudNativePG do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

mod deletion;
mod drill;
mod on_api_server;
mod patroni;
mod refused;
mod shown;
mod walk;

use std::sync::Arc;

use hardstorage_crds::Restore;
use hardstorage_report::{ErrorReport, RunReport, RunState};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::reconcile;
use super::samples::{object, plan_result};
use crate::names::label;
use crate::remembering::Server;
use crate::scripted::Answers;

const OURS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team";
const RESTORE: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrestores/back";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const PODS: &str = "/api/v1/namespaces/team/pods";
const CLAIMS: &str = "/api/v1/namespaces/team/persistentvolumeclaims";
const CLUSTERS: &str = "/apis/postgresql.cnpg.io/v1/namespaces/team/clusters";

/// The world around a Restore.
fn world(spec: Value, status: Value) -> Server {
    let now: Timestamp = "2026-01-02T08:10:00Z".parse().unwrap();
    Server::new(
        vec![
            (RESTORE, object(spec, status)),
            (
                "/api/v1/namespaces/team",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
            ),
            (
                &format!("{OURS}/hsdeployments/orders"),
                json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
                    "metadata": {"name": "orders", "namespace": "team", "uid": "uid-orders"},
                    "spec": {"source": {"cloudNativePG": {"cluster": "orders"}}, "repositoryRef": {"name": "main"}}}),
            ),
            (
                &format!("{OURS}/hsrepositories/main"),
                json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
                    "metadata": {"name": "main", "namespace": "team"},
                    "spec": {"url": "s3://b/p"}, "status": {"repositoryID": "01"}}),
            ),
            (
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.postgresql.cnpg.io",
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                    "metadata": {"name": "clusters.postgresql.cnpg.io"}, "spec": {"group": "postgresql.cnpg.io",
                        "names": {"kind": "Cluster", "plural": "clusters"}, "scope": "Namespaced", "versions": []}}),
            ),
        ],
        now,
    )
}

/// Into a new Cluster.
fn into_cluster() -> Value {
    json!({"destination": {"cloudNativePG": {"cluster": "again"}}})
}

/// What a pod answers.
#[derive(Clone)]
enum Says {
    /// Nothing: it works.
    Nothing,
    /// It works, and is so far.
    Progress(Value),
    /// It has ended well.
    Done(Value),
    /// It has ended with an error, and perhaps a result.
    Error(&'static str, Option<Value>),
}

/// What the engine says in the pods of each Job.
#[derive(Clone)]
struct Engine {
    plan: Says,
    run: Says,
    check: Says,
}

impl Engine {
    /// The address of the pod with this role, and what it says.
    fn says(&self, role: &str) -> (&'static str, &Says) {
        match role {
            "plan" => ("10.0.0.1", &self.plan),
            "drill" => ("10.0.0.3", &self.check),
            _ => ("10.0.0.2", &self.run),
        }
    }
}

/// All go well.
fn good() -> Engine {
    Engine {
        plan: Says::Done(plan_result()),
        run: Says::Done(json!({"recovered": {"lsn": "0/5", "time": "2026-01-02T07:58:00Z", "timeline": 4}})),
        check: Says::Done(json!({"databases": ["app"], "indexes_checked": 7,
            "checks": [{"name": "rows", "database": "app", "passed": true, "expected": "t", "actual": "t"}]})),
    }
}

fn error(code: &str) -> ErrorReport {
    ErrorReport {
        code: code.into(),
        message: format!("it says {code}"),
        hint: "h".into(),
        exit_code: 7,
    }
}

fn report(uid: &str, says: &Says) -> RunReport {
    let mut report = RunReport::new("restore", Some(uid.to_owned()), "0.1.0");
    match says {
        Says::Nothing => {}
        Says::Progress(body) => report.progress = body.clone(),
        Says::Done(result) => {
            report.state = RunState::Succeeded;
            report.result = Some(result.clone());
        }
        Says::Error(code, result) => {
            report.state = RunState::Failed;
            report.error = Some(error(code));
            report.result.clone_from(result);
        }
    }
    report
}

fn role(job: &Value) -> &str {
    job["metadata"]["labels"][label::ROLE].as_str().unwrap()
}

/// What the Job controller does: a pod for each Job, which goes with it; and what the engine answers in it.
fn pods(server: &Server, engine: &Engine) -> Answers {
    let mut answers = Answers::default();
    let jobs = server.below(JOBS);
    for pod in server.below(PODS) {
        let owner = &pod["metadata"]["ownerReferences"][0];
        if owner["kind"] == "Job" && !jobs.iter().any(|job| job["metadata"]["uid"] == owner["uid"]) {
            server.remove(&format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap()));
        }
    }
    for job in jobs {
        let (name, uid) = (
            job["metadata"]["name"].as_str().unwrap(),
            job["metadata"]["uid"].as_str().unwrap(),
        );
        let (ip, says) = engine.says(role(&job));
        let path = format!("{PODS}/{name}-x");
        if server.get::<Value>(&path).is_none() {
            let mut labels = job["metadata"]["labels"].clone();
            labels[label::JOB_UID] = json!(uid);
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-x"),
                "namespace": "team", "labels": labels, "creationTimestamp": server.now,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}]},
                "spec": job["spec"]["template"]["spec"], "status": {"phase": "Running", "podIP": ip}});
            server.put(&path, pod);
        }
        answers.reports.insert(ip.to_owned(), report(uid, says));
    }
    answers
}

/// One reconcile; whether it went well.
async fn step(server: &Server, engine: &Engine) -> bool {
    let answers = pods(server, engine);
    let Some(restore) = server.get::<Restore>(RESTORE) else {
        return true;
    };
    reconcile(Arc::new(restore), server.context(answers)).await.is_ok()
}

async fn steps(server: &Server, engine: &Engine, count: usize) {
    for _ in 0..count {
        step(server, engine).await;
    }
}

fn seen(server: &Server) -> Restore {
    server.get(RESTORE).unwrap()
}

/// Phase, reason of Ready, and whether somebody has to look.
fn phase(server: &Server) -> (String, String, bool) {
    let status = seen(server).status.unwrap_or_default();
    let condition = |type_: &str| status.conditions.iter().find(|one| one.type_ == type_);
    (
        status
            .phase
            .as_ref()
            .map(|phase| phase.as_str().to_owned())
            .unwrap_or_default(),
        condition("Ready").map(|ready| ready.reason.clone()).unwrap_or_default(),
        condition("Stalled").is_some_and(|stalled| stalled.status == "True"),
    )
}

fn jobs_of(server: &Server, wanted: &str) -> Vec<Value> {
    server
        .below(JOBS)
        .into_iter()
        .filter(|job| role(job) == wanted)
        .collect()
}

fn arguments(job: &Value) -> Vec<String> {
    let args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    args.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn finalizers(server: &Server) -> Vec<String> {
    seen(server).finalizers().to_vec()
}

/// As `kubectl delete` does.
fn delete(server: &Server) {
    if finalizers(server).is_empty() {
        server.remove(RESTORE);
    } else {
        server.change(RESTORE, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-02T08:09:00Z");
        });
    }
}
