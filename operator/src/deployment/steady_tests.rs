//! Looks at a stream that is as it was, on an API server that remembers.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;

use jiff::SignedDuration;
use kube::runtime::reflector;
use serde_json::Value;

use super::*;
use crate::deployment::memory::Memory;
use crate::deployment::reconcile::reconcile;
use crate::deployment::reconcile::tests::{NAMESPACE, OBJECT, REPOSITORY, answers, now, repository};
use crate::deployment::samples::with_spec;
use crate::remembering::Server;

const STREAM: &str = "/apis/apps/v1/namespaces/team/deployments/orders-wal";

/// A stream that flows from a server that nothing of Kubernetes describes.
fn server() -> Server {
    let spec = json!({"source": {"connection": {"hosts": [{"host": "db.example"}], "user": "u"}},
        "repositoryRef": {"name": "main"}});
    let mut object = serde_json::to_value(with_spec("team", "orders", spec)).unwrap();
    object["metadata"]["finalizers"] = json!(["hardstorage.dev/slot"]);
    let labels = json!({"hardstorage.dev/role": "wal", "hardstorage.dev/deployment": "orders"});
    let owned =
        |kind: &str, uid: &str| json!([{"apiVersion": "x", "kind": kind, "name": "n", "uid": uid, "controller": true}]);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let set = json!({"metadata": {"name": "s", "uid": "set", "labels": labels, "ownerReferences": owned("Deployment", "child")}});
    let pod = json!({"metadata": {"name": "p", "uid": "pod", "labels": labels, "ownerReferences": owned("ReplicaSet", "set")},
        "status": {"phase": "Running", "podIP": "10.0.0.9"}});
    let stream = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders-wal", "namespace": "team",
        "uid": "child", "ownerReferences": owned("Deployment", "uid-team-orders")},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "engine", "image": "engine:1"}]}}}});
    let objects = vec![
        (OBJECT, object),
        (REPOSITORY, repository()),
        (NAMESPACE, namespace),
        ("/apis/apps/v1/namespaces/team/replicasets/s", set),
        ("/api/v1/namespaces/team/pods/p", pod),
        (STREAM, stream),
    ];
    Server::new(objects, now())
}

struct World {
    server: Server,
    shared: Arc<Shared>,
    stream: Value,
}

impl World {
    fn new() -> World {
        let (all, _) = reflector::store();
        let memory = Memory::default();
        World {
            server: server(),
            shared: Arc::new(Shared { all, memory }),
            stream: json!({}),
        }
    }

    /// Looks so many seconds later; how many objects it reads.
    async fn look(&self, second: i64) -> usize {
        let mut pods = answers(json!([]));
        let report = pods.reports.get_mut("10.0.0.9").unwrap();
        let mut told = serde_json::to_value(report.stream.as_ref().unwrap()).unwrap();
        told.as_object_mut()
            .unwrap()
            .extend(self.stream.as_object().unwrap().clone());
        report.stream = Some(serde_json::from_value(told).unwrap());
        let mut server = self.server.clone();
        server.now = now() + SignedDuration::from_secs(second);
        let before = server.reads();
        let object: ProtectedDeployment = server.get(OBJECT).unwrap();
        reconcile(Arc::new(object), server.context(pods), self.shared.clone())
            .await
            .unwrap();
        server.reads() - before
    }

    fn says(&mut self, stream: Value) {
        self.stream = stream;
    }
}

#[tokio::test]
async fn a_stream_that_is_as_it_was_costs_no_reads_until_something_changes() {
    let mut world = World::new();
    assert!(world.look(0).await > 0);
    let flows = json!({"durable_lsn": "0/4000000", "bytes_received": 9, "segments": 7});
    world.says(flows.clone());
    for second in [15, 30, 45] {
        assert_eq!(world.look(second).await, 0, "{second}");
    }
    assert!(world.look(60).await > 0, "a whole look each minute");
    let status = |world: &World| world.server.get::<Value>(OBJECT).unwrap()["status"].clone();
    assert_eq!(
        status(&world)["stream"]["archivedLSN"],
        "0/4000000",
        "{}",
        status(&world)
    );
    assert_eq!(world.look(75).await, 0, "its own status is no news");
    // A child has changed.
    world.shared.memory.wake("uid-team-orders");
    assert!(world.look(76).await > 0);
    assert_eq!(world.look(77).await, 0);
    // The object has changed.
    world
        .server
        .change(OBJECT, |object| object["metadata"]["annotations"]["a"] = json!("b"));
    assert!(world.look(78).await > 0);
    assert_eq!(world.look(79).await, 0);
    // It was connected anew: perhaps to another server.
    world.says(json!({"connections": 2}));
    assert!(world.look(80).await > 0);
    assert_eq!(world.look(81).await, 0);
    // It does not flow: everything is looked at, each time.
    let error =
        json!({"code": "unreachable.postgres", "message": "it says no", "hint": "do something", "exit_code": 8});
    world.says(json!({"phase": "reconnecting", "last_error": error}));
    for second in [82, 83, 84] {
        assert!(world.look(second).await > 0, "{second}");
    }
}

/// After a start all want to show their backups: who finds no room asks its stream alone until there is some.
#[tokio::test]
async fn a_look_for_which_there_is_no_room_costs_no_reads_either() {
    let world = World::new();
    let context = world.server.context(crate::scripted::Answers::default());
    assert!(context.showing.available_permits() > 0);
    assert!(world.look(0).await > 0);
    let mut remembered = world.shared.memory.get("uid-team-orders");
    let steady = remembered.steady.as_mut().unwrap();
    assert!(steady.shown);
    assert_eq!(world.look(15).await, 0);
    steady.shown = false;
    world.shared.memory.put("uid-team-orders", remembered);
    assert!(world.look(16).await > 0, "there is room");
}

/// What changes while it is looked at is looked at once more.
#[test]
fn a_change_in_between_is_not_lost() {
    let memory = Memory::default();
    memory.wake("uid");
    assert_eq!(memory.woken("uid"), 0, "nothing is kept of what was never looked at");
    memory.put("uid", crate::deployment::memory::Remembered::default());
    let begun = memory.woken("uid");
    memory.wake("uid");
    assert_ne!(memory.woken("uid"), begun);
    memory.forget("uid");
    memory.wake("uid");
    assert_eq!(memory.woken("uid"), 0);
}
