//! The real controller against a real API server, from an empty place to a repository that is shown. Nothing runs pods
//! there, so the test does what a kubelet and the engine would do, and no more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Parser as _;
use hardstorage_crds::{Backup, BackupPhase, Repository};
use hardstorage_e2e::{ApiServer, tree};
use hardstorage_report::{RunReport, RunState};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::samples::{ID, KEY};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::report::{Reports, ServedCatalog, Unheard};
use crate::settings::Settings;

/// What the engines of all pods serve, by address.
#[derive(Default)]
struct Engines {
    reports: Mutex<HashMap<String, RunReport>>,
    heard: Mutex<Vec<String>>,
}

#[async_trait]
impl Reports for Engines {
    async fn report(&self, ip: &str) -> Result<RunReport, Unheard> {
        let reports = self.reports.lock().unwrap();
        reports.get(ip).cloned().ok_or_else(|| Unheard(ip.to_owned()))
    }

    async fn catalog(&self, _ip: &str) -> Result<ServedCatalog, Unheard> {
        let record = json!({"backup_id": "team.orders.full.20260101T000000Z.00aa", "type": "full", "file_count": 1,
            "logical_bytes": 4096, "stored_bytes": 1024, "reuse": 0.0, "held": false, "deleted": false, "damaged": false});
        Ok(ServedCatalog {
            etag: "1".into(),
            repository_id: ID.into(),
            backups: vec![serde_json::from_value(record).unwrap()],
        })
    }

    async fn heard(&self, _ip: &str, run: &str) -> Result<(), Unheard> {
        self.heard.lock().unwrap().push(run.to_owned());
        Ok(())
    }
}

struct World {
    client: Client,
    engines: Arc<Engines>,
    pods: usize,
}

/// Looks until there is something to see.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl World {
    async fn new(server: &ApiServer) -> World {
        // Another test of this process may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let file = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let world = World {
            client,
            engines: Arc::default(),
            pods: 0,
        };
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        world.team().create(&PostParams::default(), &account).await.unwrap();
        world
    }

    fn team<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "team")
    }

    /// The newest Job of a role that has no pod yet.
    async fn job(&self, role: &str) -> Job {
        let selector = ListParams::default().labels(&format!("hardstorage.dev/role={role}"));
        until(&format!("a Job to {role}"), || async {
            let jobs: Api<Job> = self.team();
            let list = jobs.list(&selector).await.unwrap();
            list.items
                .into_iter()
                .find(|job| job.status.as_ref().is_none_or(|status| status.start_time.is_none()))
        })
        .await
    }

    /// Runs the Job's pod to its end: it serves this result until it was heard, and then it ends.
    async fn engine(&mut self, role: &str, result: Value) {
        let job = self.job(role).await;
        let (name, uid) = (job.name_any(), job.uid().unwrap());
        self.pods += 1;
        let address = format!("10.0.0.{}", self.pods);
        let template = serde_json::to_value(&job.spec.unwrap().template).unwrap();
        let pod = json!({"metadata": {"name": format!("{name}-x"), "labels": {"batch.kubernetes.io/controller-uid": uid},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}]},
            "spec": template["spec"]});
        let pods: Api<Pod> = self.team();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        let mut report = RunReport::new(role, Some(uid.clone()), "0.1.0");
        report.state = RunState::Succeeded;
        report.result = Some(result);
        self.engines
            .reports
            .lock()
            .unwrap()
            .insert(address.clone(), report.clone());
        let running = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        status(&pods, &pod.name_any(), &running).await;
        let jobs: Api<Job> = self.team();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        status(
            &jobs,
            &name,
            &json!({"status": {"startTime": now, "active": 1, "ready": 1}}),
        )
        .await;
        let engines = self.engines.clone();
        until(&format!("{role} is heard"), || async {
            engines.heard.lock().unwrap().contains(&uid).then_some(())
        })
        .await;
        let last = json!({"name": "engine", "image": "engine:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": serde_json::to_string(&report).unwrap()}}});
        status(
            &pods,
            &pod.name_any(),
            &json!({"status": {"phase": "Succeeded", "containerStatuses": [last]}}),
        )
        .await;
        let condition = |type_| {
            json!({"type": type_, "status": "True", "reason": "CompletionsReached",
            "lastTransitionTime": now})
        };
        let over = json!({"status": {"active": 0, "ready": 0, "succeeded": 1, "completionTime": now,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
        status(&jobs, &name, &over).await;
    }

    async fn condition(&self, type_: &str, wanted: &str) -> Repository {
        until(&format!("{type_}={wanted}"), || async {
            let found = self.team::<Repository>().get("main").await.unwrap();
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let says = |one: &hardstorage_crds::condition::Condition| format!("{}/{}", one.status, one.reason);
            conditions
                .iter()
                .any(|one| one.type_ == type_ && says(one) == wanted)
                .then_some(found)
        })
        .await
    }
}

/// An API server that holds a Repository from before there was a schema.
fn with_garbage() -> ApiServer {
    let server = ApiServer::start();
    let mut loose = hardstorage_crds::definitions().unwrap().remove(0).object;
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let file = |name: &str, object: &Value| {
        let path = server.scratch().path(name);
        std::fs::write(&path, object.to_string()).unwrap();
        path
    };
    server.define(&file("loose.json", &loose));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    server
        .kubectl(["apply".into(), "-f".into(), file("namespace.json", &namespace)])
        .ok();
    let garbage = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        "metadata": {"name": "garbage", "namespace": "team"}, "spec": {"url": 5}});
    server
        .kubectl(["apply".into(), "-f".into(), file("garbage.json", &garbage)])
        .ok();
    server.define(&tree("crds"));
    // The server serves the new schema a moment after it took it.
    let again = [
        "create".into(),
        "--dry-run=server".into(),
        "-f".into(),
        file("again.json", &garbage),
    ];
    hardstorage_e2e::until("the schema holds", Duration::from_mins(1), || {
        let answer = server.kubectl(again.clone());
        (answer.code == Some(1) && answer.stderr.contains("Invalid value")).then_some(())
    });
    server
}

async fn status<K>(api: &Api<K>, name: &str, body: &Value)
where
    K: serde::de::DeserializeOwned + Clone + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(body))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_empty_place_to_a_repository_that_is_shown() {
    let server = with_garbage();
    let mut world = World::new(&server).await;
    let settings = Settings::parse_from([
        "operator",
        "--engine-image",
        "engine:1",
        "--scraper-namespace",
        "monitoring",
    ]);
    let context = Context::new(
        world.client.clone(),
        settings,
        world.engines.clone(),
        Metrics::default(),
    );
    let stop = CancellationToken::new();
    let controller = tokio::spawn(super::run(Arc::new(context), stop.clone()));
    let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository", "metadata": {"name": "main",
        "labels": {"argocd.argoproj.io/instance": "theirs"}}, "spec": {"url": "s3://backups/team"}});
    // Beside it lie one that cannot be read, and one that waits.
    let other = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository", "metadata": {"name": "volume"},
        "spec": {"url": "file:///repository", "persistentVolumeClaim": {"claimName": "not-there"}}});
    let repositories: Api<Repository> = world.team();
    for object in [other, object] {
        let object: Repository = serde_json::from_value(object).unwrap();
        repositories.create(&PostParams::default(), &object).await.unwrap();
    }

    world.engine("probe", json!({"state": "absent"})).await;
    let first: Job = world.job("init").await;
    let key = world.team::<Secret>().get("main-kek").await.unwrap();
    assert_eq!(key.data.unwrap()["kek"].0.len(), 32);
    world
        .engine("init", json!({"id": ID, "create_only_proven": true}))
        .await;
    let seen = json!({"state": "present", "id": ID, "encrypted": true, "kek_fingerprint": KEY, "own_key": KEY});
    world.engine("probe", seen).await;
    let ready = world.condition("Ready", "True/Ready").await;
    assert_eq!(ready.status.unwrap().repository_id.as_deref(), Some(ID));
    world.condition("RecoveryKeyExported", "False/NotExported").await;
    world.condition("WriteSafe", "True/ConditionalWrites").await;
    let window = json!({"from": "2026-01-01T00:01:00Z", "to": "2026-01-02T00:00:00Z"});
    world
        .engine(
            "sync",
            json!({"id": ID, "total_bytes": 8192, "deployments":
            {"team.orders": {"backups": 1, "recoverable": window}}}),
        )
        .await;

    let found = repositories.get("main").await.unwrap();
    let uid = found.uid();
    let status = found.status.unwrap();
    assert_eq!((status.backups, status.size.unwrap().as_str()), (Some(1), "8Ki"));
    assert!(status.names[0].recoverable_to.is_some());
    let mirrors = world.team::<Backup>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(mirrors.len(), 1);
    assert_eq!(mirrors[0].status.as_ref().unwrap().phase, Some(BackupPhase::Completed));

    // Whoever deletes the object deletes these, and nothing that holds a key.
    let check = until("the CronJob of its checks", || async {
        world.team::<CronJob>().get_opt("main-check").await.unwrap()
    });
    let policies: Api<k8s_openapi::api::networking::v1::NetworkPolicy> = world.team();
    let policy = policies.get("main-repository-report").await.unwrap();
    let owners = [
        policy.owner_references().to_vec(),
        check.await.owner_references().to_vec(),
        first.owner_references().to_vec(),
        mirrors[0].owner_references().to_vec(),
    ];
    for owner in owners {
        assert_eq!(owner.first().map(|owner| owner.uid.clone()), uid);
    }
    let secrets = world.team::<Secret>().list(&ListParams::default()).await.unwrap().items;
    let names: Vec<String> = secrets.iter().map(kube::ResourceExt::name_any).collect();
    assert_eq!(names, ["main-kek", "main-signing"]);
    for secret in &secrets {
        assert!(secret.owner_references().is_empty() && secret.immutable == Some(true));
        assert!(secret.labels().keys().all(|key| !key.contains("argo")));
    }

    // The other one waited for its claim, and held up nobody.
    let waiting = repositories.get("volume").await.unwrap().status.unwrap();
    assert!(waiting.conditions.iter().any(|one| one.reason == "ClaimMissing"));

    // Once it is known, nothing is created again where it was: only looked at.
    repositories
        .patch(
            "main",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"limits": {"concurrentBackups": 1}}})),
        )
        .await
        .unwrap();
    world.engine("probe", json!({"state": "absent"})).await;
    world.condition("Stalled", "True/RepositoryVanished").await;
    let inits = ListParams::default().labels("hardstorage.dev/role=init");
    let jobs = world.team::<Job>().list(&inits).await.unwrap().items;
    assert_eq!(
        jobs.iter().map(kube::ResourceExt::uid).collect::<Vec<_>>(),
        [first.uid()]
    );

    repositories.delete("main", &DeleteParams::default()).await.unwrap();
    until("it is gone", || async {
        repositories.get_opt("main").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(
        world
            .team::<Secret>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    stop.cancel();
    controller.await.unwrap();
}
