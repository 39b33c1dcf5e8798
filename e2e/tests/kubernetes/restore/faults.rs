//! A restore whose helpers are killed at every step, and one that is given up.

use hardstorage_e2e::kubernetes::{Database, Operator, is};
use serde_json::Value;

use super::{ASK, ROWS, at, before_a_mistake, into_claim, into_cluster, object, until_completed};
use crate::site::{PATIENCE, Site, step};

#[test]
fn killed_at_every_step_it_still_comes_back() {
    let operator = Operator::get();
    let site = Site::streaming("e2e-killed-back", 1);
    let namespace = &site.namespace;
    let moment = before_a_mistake(&site);
    // Whoever kills it counts as a failed try; here that happens more often than a restore has patience for.
    let more = at(&moment) + &into_cluster("shop-back") + "  backoffLimit: 20\n";
    namespace.apply(&object("back", &more));
    let mut seen: Vec<String> = Vec::new();
    let over = |object: &Value| object["status"]["phase"] == "Completed" || object["status"]["failure"].is_object();
    loop {
        let next = namespace.until_object("hsrs/back", "another phase", PATIENCE, |object| {
            let phase = object["status"]["phase"].as_str();
            phase.is_some_and(|phase| !seen.iter().any(|one| one == phase))
        });
        if over(&next) {
            assert_eq!(next["status"]["phase"], "Completed", "{next:#}");
            break;
        }
        let phase = next["status"]["phase"].as_str().unwrap().to_owned();
        step(&format!("in {phase}: the operator and every pod of it"));
        seen.push(phase);
        operator.kill(&operator.leader().unwrap_or_default());
        for pod in namespace.list("pods", "hardstorage.dev/restore=back") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            namespace
                .kubectl(&[
                    "delete",
                    "pod",
                    name,
                    "--grace-period=0",
                    "--force",
                    "--ignore-not-found",
                ])
                .ok();
        }
    }
    assert!(seen.len() >= 3, "hardly anything was killed: {seen:?}");
    let back = Database::of_cloud_native_pg("shop-back");
    back.until_healthy(namespace, 1);
    assert_eq!(back.sql(namespace, ASK), ROWS);
}

#[test]
fn a_restore_that_is_given_up_leaves_nothing_half_done() {
    let site = Site::streaming("e2e-given-up", 1);
    let namespace = &site.namespace;
    before_a_mistake(&site);

    step("the store is down: it waits, says so, and makes nothing");
    namespace.kubectl(&["scale", "deployment/minio", "--replicas=0"]).ok();
    namespace.apply(&object("waits", &into_claim("given-up")));
    namespace.until_object("hsrs/waits", "it says that it waits", PATIENCE, |object| {
        object["status"]["phase"] == "Pending" && is(object, "Ready", "False") && is(object, "Stalled", "True")
    });
    assert!(namespace.find("pvc/given-up").is_none());

    step("up again, it goes on by itself");
    namespace.kubectl(&["scale", "deployment/minio", "--replicas=1"]).ok();
    until_completed(namespace, "waits");

    step("deleted before it was done: the unfinished claim goes with it, and the other one stays");
    let unschedulable = "  podTemplate: {nodeSelector: {no-such: node}}\n";
    namespace.apply(&object("stopped", &(into_claim("unfinished") + unschedulable)));
    namespace.until(
        "its plan waits for a node, or its claim is there",
        PATIENCE,
        |namespace| {
            namespace
                .find("hsrs/stopped")
                .filter(|object| object["status"]["phase"].is_string())
        },
    );
    namespace.kubectl(&["delete", "hsrs/stopped", "--timeout=120s"]).ok();
    namespace.until("its claim is gone", PATIENCE, |namespace| {
        namespace.find("pvc/unfinished").is_none().then_some(())
    });
    assert!(namespace.list("jobs", "hardstorage.dev/restore=stopped").is_empty());
    assert!(namespace.find("pvc/given-up").is_some());
}
