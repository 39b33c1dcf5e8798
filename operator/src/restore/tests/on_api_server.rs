//! Restores on a real API server, with CloudNativePG's own definitions: it takes the Jobs, the claims, the Cluster and every
//! status. Nothing runs there, so the test does what the Job controller, the engine and CloudNativePG would do, and no more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::time::Duration;

use clap::Parser as _;
use hardstorage_crds::Repository;
use hardstorage_e2e::{ApiServer, cache_root, tree};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Resource};

use super::*;
use crate::context::Context;
use crate::metrics::Metrics;
use crate::settings::Settings;

struct World {
    client: Client,
    engine: Engine,
}

impl World {
    async fn new(server: &ApiServer) -> World {
        // Another test of this process may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let others = cache_root().join("kubernetes/cloudnative-pg/config/crd/bases");
        assert!(
            others.is_dir(),
            "{} is missing: run e2e/kubernetes/build",
            others.display()
        );
        let others = others.display().to_string();
        // Theirs are too large for a plain apply.
        server.kubectl(["apply", "--server-side", "-f", &others]).ok();
        server.define(&tree("crds"));
        server.kubectl(["create", "namespace", "team"]).ok();
        let file = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options);
        let client = Client::try_from(config.await.unwrap()).unwrap();
        let world = World { client, engine: good() };
        world
            .make::<ServiceAccount>(json!({"metadata": {"name": "default"}}))
            .await;
        let repository = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
            "metadata": {"name": "main"}, "spec": {"url": "s3://b/p"}});
        world.make::<Repository>(repository).await;
        world.status::<Repository>("main", json!({"repositoryID": "01"})).await;
        world
    }

    fn team<K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "team")
    }

    async fn make<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.team().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn status<K>(&self, name: &str, status: Value)
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let body = Patch::Merge(json!({"status": status}));
        let api: Api<K> = self.team();
        api.patch_status(name, &PatchParams::default(), &body).await.unwrap();
    }

    fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
        Api::namespaced_with(
            self.client.clone(),
            "team",
            &ApiResource::from_gvk_with_plural(&kind, "clusters"),
        )
    }

    /// A pod for each Job; and what the engine answers in it.
    async fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        for job in self.team::<Job>().list(&ListParams::default()).await.unwrap().items {
            let (name, uid) = (job.name_any(), job.uid().unwrap());
            let (ip, says) = self.engine.says(&job.labels()[label::ROLE]);
            let pod = format!("{name}-x");
            if self.team::<Pod>().get_opt(&pod).await.unwrap().is_none() {
                let mut labels = job.labels().clone();
                labels.insert(label::JOB_UID.to_owned(), uid.clone());
                let template = serde_json::to_value(job.spec.unwrap().template).unwrap();
                self.make::<Pod>(json!({"metadata": {"name": pod, "labels": labels, "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}]},
                    "spec": template["spec"]}))
                    .await;
                let running = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]});
                self.status::<Pod>(&pod, running).await;
            }
            answers.reports.insert(ip.to_owned(), report(&uid, says));
        }
        answers
    }

    /// The pods of this role have heard that they may end.
    async fn pods_end(&self, role: &str) {
        let of = ListParams::default().labels(&format!("{}={role}", label::ROLE));
        for pod in self.team::<Pod>().list(&of).await.unwrap().items {
            self.status::<Pod>(&pod.name_any(), json!({"phase": "Succeeded"})).await;
        }
    }

    /// Reconciles until it looks like this.
    async fn until(&self, what: &str, seen: impl Fn(&Restore) -> bool) -> Restore {
        let settings = Settings::parse_from(["operator", "--engine-image", "engine:1"]);
        let restores: Api<Restore> = self.team();
        for _ in 0..20 {
            let answers = Arc::new(self.answers().await);
            let context = Context::new(self.client.clone(), settings.clone(), answers, Metrics::default());
            let restore = restores.get("back").await.unwrap();
            if seen(&restore) {
                return restore;
            }
            reconcile(Arc::new(restore), Arc::new(context)).await.unwrap();
        }
        panic!("{what}: {:#?}", restores.get("back").await.unwrap().status);
    }

    async fn phase(&self, wanted: &str) -> Restore {
        let is = |restore: &Restore| {
            let phase = restore.status.as_ref().and_then(|status| status.phase.as_ref());
            phase.is_some_and(|phase| phase.as_str() == wanted)
        };
        self.until(wanted, is).await
    }
}

#[tokio::test]
async fn from_a_plan_to_a_cluster() {
    let server = ApiServer::start();
    let mut world = World::new(&server).await;
    world.engine.run = Says::Progress(json!({"stage": "copying", "done_bytes": 1, "total_bytes": 2}));
    world
        .make::<Restore>(
            json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back"},
            "spec": {"source": {"repository": {"ref": {"name": "main"}, "name": "team.orders"}}, "dryRun": true,
                "destination": {"cloudNativePG": {"cluster": "again"}}}}),
        )
        .await;
    let planned = world.phase("Planned").await;
    let plan = planned.status.unwrap().plan.unwrap();
    assert_eq!(plan.source_snapshot.unwrap()["cluster"]["spec"]["instances"], 2);
    assert_eq!(
        (plan.image.as_deref(), plan.claim_size.as_deref()),
        (Some("postgres:18"), Some("1Gi"))
    );
    let claims: Api<PersistentVolumeClaim> = world.team();
    assert!(claims.get_opt("again-1").await.unwrap().is_none());

    let restores: Api<Restore> = world.team();
    let go = Patch::Merge(json!({"spec": {"dryRun": false}}));
    restores.patch("back", &PatchParams::default(), &go).await.unwrap();
    let copying = world.phase("Copying").await;
    assert_eq!(copying.finalizers(), ["hardstorage.dev/restore"]);
    assert_eq!(copying.status.unwrap().progress.unwrap().percent, Some(50));
    let claim = claims.get("again-1").await.unwrap();
    assert!(claim.owner_references().is_empty());

    world.engine = good();
    world.phase("Adopting").await;
    world.pods_end("restore").await;
    let made = |restore: &Restore| {
        let created = restore.status.as_ref().map(|status| status.created.as_slice());
        created.unwrap_or_default().iter().any(|one| one.kind == "Cluster")
    };
    world.until("a Cluster", made).await;
    let healthy =
        json!({"status": {"phase": "Cluster in healthy state", "readyInstances": 2, "currentPrimary": "again-1"}});
    let clusters = world.clusters();
    let params = PatchParams::default();
    clusters
        .patch_status("again", &params, &Patch::Merge(healthy))
        .await
        .unwrap();
    let done = world.phase("Completed").await;
    let ready = done.status.unwrap().conditions;
    assert!(ready.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    let free = |restore: &Restore| restore.finalizers().is_empty();
    world.until("nothing keeps it", free).await;

    // What was restored is nobody's to take away.
    restores.delete("back", &DeleteParams::default()).await.unwrap();
    hardstorage_e2e::until("it is gone", Duration::from_secs(30), || {
        let answer = server.kubectl(["-n", "team", "get", "hsrs", "back"]);
        (answer.code == Some(1)).then_some(())
    });
    assert!(clusters.get("again").await.unwrap().owner_references().is_empty());
    assert_eq!(claims.get("again-1").await.unwrap().uid(), claim.uid());
}

#[tokio::test]
async fn half_a_claim_goes_with_its_restore() {
    let server = ApiServer::start();
    let mut world = World::new(&server).await;
    world.engine.run = Says::Progress(json!({"stage": "copying"}));
    world
        .make::<Restore>(
            json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back"},
            "spec": {"source": {"repository": {"ref": {"name": "main"}, "name": "team.orders"}},
                "recoveryTarget": {"time": "5 minutes ago"},
                "destination": {"persistentVolumeClaim": {"name": "pg", "create": {}}}}}),
        )
        .await;
    world.phase("Copying").await;
    let restores: Api<Restore> = world.team();
    restores.delete("back", &DeleteParams::default()).await.unwrap();
    let cancelled = world.phase("Cancelled").await;
    assert!(cancelled.metadata.deletion_timestamp.is_some());
    let claims: Api<PersistentVolumeClaim> = world.team();
    assert!(
        claims.get("pg").await.unwrap().metadata.deletion_timestamp.is_none(),
        "its pod still writes"
    );
    let run = ListParams::default().labels("hardstorage.dev/role=restore");
    let pods: Api<Pod> = world.team();
    for pod in pods.list(&run).await.unwrap().items {
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(&pod.name_any(), &at_once).await.unwrap();
    }
    let settings = Settings::parse_from(["operator", "--engine-image", "engine:1"]);
    for _ in 0..5 {
        let Some(restore) = restores.get_opt("back").await.unwrap() else {
            break;
        };
        let answers = Arc::new(Answers::default());
        let context = Context::new(world.client.clone(), settings.clone(), answers, Metrics::default());
        reconcile(Arc::new(restore), Arc::new(context)).await.unwrap();
    }
    assert!(restores.get_opt("back").await.unwrap().is_none());
    // What protects claims in use is a controller, which does not run here.
    let left = claims.get_opt("pg").await.unwrap();
    assert!(left.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()));
}

#[tokio::test]
async fn a_drill_leaves_nothing_but_its_proof() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    let server = ApiServer::start();
    let mut world = World::new(&server).await;
    world.engine.check = Says::Progress(json!({"stage": "checking", "done": 1, "total": 2}));
    world
        .make::<Restore>(
            json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back"},
            "spec": {"source": {"repository": {"ref": {"name": "main"}, "name": "team.orders"}},
                "destination": {"drill": {"checks": [{"name": "rows", "database": "app", "sql": "select 1"}]}}}}),
        )
        .await;
    let restored = |restore: &Restore| restore.status.as_ref().is_some_and(|status| status.steps.len() == 3);
    world.until("its copy is complete", restored).await;
    world.pods_end("restore").await;
    let is_asked = |restore: &Restore| {
        let ready = restore.status.as_ref().map(|status| status.conditions.as_slice());
        let mut ready = ready.unwrap_or_default().iter();
        ready.any(|one| one.type_ == "Ready" && one.message == "the copy is being asked")
    };
    world.until("it is being asked", is_asked).await;
    let claims: Api<PersistentVolumeClaim> = world.team();
    let claim = claims.get("back-drill").await.unwrap();
    assert_eq!(claim.owner_references()[0].kind, "Restore");
    let all = ListParams::default().labels("hardstorage.dev/role=drill");
    let (maps, policies): (Api<ConfigMap>, Api<NetworkPolicy>) = (world.team(), world.team());
    assert_eq!(policies.list(&all).await.unwrap().items.len(), 1);

    world.engine = good();
    world.phase("Completed").await;
    world.pods_end("drill").await;
    let free = |restore: &Restore| restore.finalizers().is_empty();
    let done = world.until("nothing keeps it", free).await;
    assert_eq!(done.status.unwrap().drill.unwrap().result.unwrap().as_str(), "Passed");
    assert!(maps.list(&all).await.unwrap().items.is_empty());
    assert!(policies.list(&all).await.unwrap().items.is_empty());
    // What protects claims in use is a controller, which does not run here.
    let left = claims.get_opt("back-drill").await.unwrap();
    assert!(left.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()));
}
