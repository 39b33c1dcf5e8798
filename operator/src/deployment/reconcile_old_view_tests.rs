//! Looks at a Deployment that the watch shows as it was before.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::remembering::Server;

fn server() -> Server {
    let object = serde_json::to_value(deployment("team", "orders")).unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let objects = vec![
        (OBJECT, object),
        (REPOSITORY, repository()),
        (CLUSTER, cluster()),
        (NAMESPACE, namespace),
    ];
    Server::new(objects, now())
}

async fn look(server: &Server, seen: &ProtectedDeployment) -> Result<Action> {
    let shared = shared(std::slice::from_ref(seen));
    reconcile(Arc::new(seen.clone()), server.context(Answers::default()), shared).await
}

/// The first look writes the finalizer, and on what that made of the object its status.
#[tokio::test]
async fn a_new_object_has_its_status_after_one_look() {
    let server = server();
    look(&server, &server.get(OBJECT).unwrap()).await.unwrap();
    let after: ProtectedDeployment = server.get(OBJECT).unwrap();
    assert_eq!(
        after.metadata.finalizers.as_deref(),
        Some(["hardstorage.dev/slot".to_owned()].as_slice())
    );
    assert!(after.status.unwrap().phase.is_some());
}

/// Which clusters were protected, and under which name the one of now is, lies in the status alone: without it the backups
/// of the one before are out of sight, and nothing retains them.
#[tokio::test]
async fn an_old_view_does_not_undo_what_is_remembered() {
    let server = server();
    look(&server, &server.get(OBJECT).unwrap()).await.unwrap();
    let old: ProtectedDeployment = server.get(OBJECT).unwrap();
    server.change(OBJECT, |object| {
        let before = json!({"name": "team.orders", "systemIdentifier": "1", "current": false});
        let status = &mut object["status"];
        status["lineages"] = json!([before, {"name": "team.orders.7712188176470106131",
            "systemIdentifier": "7712188176470106131", "current": true}]);
        status["nameInRepository"] = json!("team.orders.7712188176470106131");
    });
    let remembered: Value = server.get(OBJECT).unwrap();
    // Something that it would say.
    server.remove(REPOSITORY);
    assert!(look(&server, &old).await.unwrap_err().is_conflict());
    assert_eq!(server.get::<Value>(OBJECT).unwrap(), remembered);
    look(&server, &server.get(OBJECT).unwrap()).await.unwrap();
    let after: Value = server.get(OBJECT).unwrap();
    for field in ["lineages", "nameInRepository"] {
        assert_eq!(after["status"][field], remembered["status"][field]);
    }
    assert_eq!(condition(&after["status"], "Ready")["reason"], "RepositoryMissing");
}
