//! Ways to go: what is ours leaves without a trace, and what holds data or keys stays.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Operator, is};
use serde_json::Value;

use crate::site::{PATIENCE, SCHEDULE, SOON, Site, deployment, repository, step};

/// What must be the same before and after: the server's settings, its pods, and the spec of the cluster.
#[derive(Debug, PartialEq, Eq)]
struct Untouched {
    settings: String,
    pods: Vec<(String, u64)>,
    generation: Option<i64>,
    spec: Value,
    slots: Vec<String>,
}

impl Untouched {
    #[track_caller]
    fn look(site: &Site) -> Untouched {
        let sql = "SELECT string_agg(name || '=' || setting, chr(10) ORDER BY name) FROM pg_settings";
        let cluster = site.namespace.get(&site.database.object());
        let mut pods: Vec<_> = site.namespace.list("pods", &site.database.selector());
        pods.retain(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "Cluster");
        Untouched {
            settings: site.database.sql(&site.namespace, sql),
            pods: pods.iter().map(life).collect(),
            generation: cluster["metadata"]["generation"].as_i64(),
            spec: cluster["spec"].clone(),
            slots: site.database.slots(&site.namespace),
        }
    }
}

/// A pod's UID, and how often its containers were started again.
fn life(pod: &Value) -> (String, u64) {
    let containers = pod["status"]["containerStatuses"].as_array();
    let restarts = containers.map(|all| all.iter().filter_map(|one| one["restartCount"].as_u64()).sum());
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    (uid, restarts.unwrap_or_default())
}

#[test]
fn deleting_all_that_is_ours_leaves_the_rest_as_it_was() {
    let site = Site::new("e2e-removal", 1);
    let namespace = &site.namespace;
    let before = Untouched::look(&site);
    assert!(before.slots.is_empty(), "{before:?}");

    step("protected, with a backup");
    namespace.apply(&repository(&site.bucket.url("main")));
    namespace.apply(&deployment("shop", ""));
    site.until_ready();
    let backup = site.back_up("first");
    site.until_archived();
    let with_us = Untouched::look(&site);
    assert_eq!(with_us.slots, [site.slot()], "no difference would be seen");
    let id = namespace.get("hsrepo/main")["status"]["repositoryID"].clone();
    let key = namespace.get("secret/main-kek")["metadata"]["uid"].clone();

    step("the Deployment goes, and its slot with it");
    namespace.delete(&["hsdep/shop"]);
    namespace.until_gone("hsdep/shop", PATIENCE);
    assert_eq!(Untouched::look(&site), before);
    namespace.until_gone("deployment/shop-wal", SOON);

    step("everything of ours goes; data and key stay");
    namespace
        .kubectl(&["delete", "hsrepo,hsdep,hssched,hsbk", "--all", "--timeout=60s"])
        .ok();
    namespace.until("no Job or pod of ours is left", SOON, |namespace| {
        let ours = namespace.list(
            "pods,jobs,cronjobs,deployments",
            "app.kubernetes.io/name=pg-hardstorage",
        );
        ours.is_empty().then_some(())
    });
    assert_eq!(namespace.get("secret/main-kek")["metadata"]["uid"], key);
    let (_forward, outside) = site.outside();
    let list = outside.run(&["list", &site.name()]).ok();
    assert!(list.stdout.contains(&backup), "{list}");

    step("the same objects bring it back, with the backup");
    namespace.apply(&repository(&site.bucket.url("main")));
    namespace.apply(&deployment("shop", ""));
    site.until_ready();
    assert_eq!(namespace.get("hsrepo/main")["status"]["repositoryID"], id);
    assert_eq!(namespace.get("secret/main-kek")["metadata"]["uid"], key);
    namespace.until("the backup is shown again", SOON, |namespace| {
        let shown = namespace.list("hsbk", "");
        shown
            .iter()
            .any(|one| one["spec"]["recorded"]["backupID"] == backup.as_str())
            .then_some(())
    });
}

/// The worst order: nobody is there any more who could take the finalizer off, and nothing that could be asked.
#[test]
fn a_namespace_ends_although_its_database_is_gone() {
    let operator = Operator::get();
    let site = Site::streaming("e2e-namespace", 1);
    site.namespace.apply(SCHEDULE);

    step("the operator is gone, then the database, then the namespace");
    operator.scale(0);
    site.namespace.delete(&[&site.database.object()]);
    site.namespace.until_gone(&site.database.object(), PATIENCE);
    let name = site.namespace.name().to_owned();
    site.namespace
        .node()
        .kubectl(["delete", "namespace", &name, "--wait=false"])
        .ok();
    site.namespace
        .until("only the finalizer is in the way", PATIENCE, |namespace| {
            let object = namespace.find("hsdep/shop")?;
            let going = !object["metadata"]["deletionTimestamp"].is_null();
            (going && namespace.list("pods", "").is_empty()).then_some(())
        });

    step("the operator comes back");
    operator.scale(2);
    site.namespace.remove(Duration::from_mins(1));
}

/// A Cluster that is deleted takes its slot along: nobody is to wait for one that does not answer.
#[test]
fn a_deployment_ends_although_its_cluster_is_gone() {
    let site = Site::streaming("e2e-cluster-gone", 1);
    let namespace = &site.namespace;
    namespace.delete(&[&site.database.object()]);
    namespace.until_gone(&site.database.object(), PATIENCE);
    let missing = |object: &Value| is(object, "SourceReady", "False");
    namespace.until_object("hsdep/shop", "it tells that the source is missing", SOON, missing);
    assert!(
        namespace.find("deployment/shop-wal").is_some(),
        "a missing source has removed the stream"
    );
    namespace.delete(&["hsdep/shop"]);
    namespace.until_gone("hsdep/shop", SOON);
}
