//! A repository on a claim that only one node can mount, next to the database that it protects.

use std::fs::File;
use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, Namespace, Operator, Outside, Writer, is};
use hardstorage_e2e::run;
use serde_json::Value;

use crate::site::{PATIENCE, deployment, step};

const REPOSITORY: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: backups}\nspec:\n  \
    accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n---\n\
    apiVersion: hardstorage.dev/v1alpha1\nkind: Repository\nmetadata: {name: main}\nspec:\n  \
    url: file:///repository/main\n  persistentVolumeClaim: {claimName: backups}\n";

#[test]
fn a_claim_holds_backups() {
    Operator::get();
    let namespace = Namespace::new("e2e-claim");
    let database = Database::cloud_native_pg(&namespace, "shop", 1);
    let writer = Writer::start(&namespace, &database);
    namespace.apply(REPOSITORY);
    namespace.apply(&deployment("shop", ""));
    namespace.until_condition("hsrepo/main", "Ready", PATIENCE);
    namespace.until_condition("hsdep/shop", "Ready", PATIENCE);
    namespace.apply(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {name: first}\nspec:\n  deploymentRef: {name: shop}\n",
    );
    namespace.wait("hsbk/first", "jsonpath={.status.phase}=Completed", PATIENCE);
    writer.until_more(&namespace, 5);
    let committed = writer.stop(&namespace);
    let slot = database.slots(&namespace);
    database.until_archived(&namespace, &slot[0], PATIENCE);

    step("a copy of the claim is all that it takes");
    let copy = copy(&namespace);
    let outside = Outside::new(format!("file://{copy}/main"));
    outside.take(&namespace, "main-kek");
    outside.run(&["wal", "audit", "e2e-claim.shop"]).ok();
    let restored = outside.restore("e2e-claim.shop", "latest", &["--to-latest"]);
    let found = restored.batches("app");
    assert_eq!(found, Writer::held(&namespace, &database, "app"));
    assert!(committed.is_subset(&found));

    step("PostgreSQL's user cannot read it there: a Restore says so, and how it goes");
    let restore = |name: &str, destination: &str| {
        namespace.apply(&format!(
            "apiVersion: hardstorage.dev/v1alpha1\nkind: Restore\nmetadata: {{name: {name}}}\nspec:\n  \
             source: {{deploymentRef: {{name: shop}}}}\n  destination: {destination}\n"
        ));
        let over = |object: &Value| object["status"]["phase"] == "Completed" || is(object, "Stalled", "True");
        namespace.until_object(&format!("hsrs/{name}"), "it is over", PATIENCE, over)
    };
    let refused = restore("into-a-cluster", "{cloudNativePG: {cluster: shop-back}}");
    assert_eq!(refused["status"]["failure"]["code"], "RepositoryOnClaim", "{refused:#}");
    let onto = "{persistentVolumeClaim: {name: pg, create: {}, uid: 65532, gid: 65532}}";
    let done = restore("onto-a-claim", onto);
    assert_eq!(done["status"]["phase"], "Completed", "{done:#}");
    database.sql(&namespace, "CREATE TABLE written_after AS SELECT 1 AS n");
    database.until_archived(&namespace, &slot[0], PATIENCE);

    step("objects go, the claim stays");
    namespace
        .kubectl(&["delete", "hsrepo,hsdep,hsbk,hsrs", "--all", "--timeout=120s"])
        .ok();
    let claim = namespace.get("pvc/backups");
    assert!(claim["metadata"]["ownerReferences"].is_null(), "{claim:#}");
    assert!(claim["metadata"]["deletionTimestamp"].is_null(), "{claim:#}");
}

/// Reads the claim through a pod; where the copy lies.
#[track_caller]
fn copy(namespace: &Namespace) -> String {
    let image = Database::image();
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: reader}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  \
         securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}\n  \
         containers:\n  - name: reader\n    image: {image}\n    command: [sleep, \"600\"]\n    \
         securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n    \
         volumeMounts: [{{name: backups, mountPath: /repository, readOnly: true}}]\n  \
         volumes: [{{name: backups, persistentVolumeClaim: {{claimName: backups}}}}]\n"
    ));
    namespace.wait("pod/reader", "condition=Ready", PATIENCE);
    let archive = namespace.scratch().path("repository.tar");
    let mut command = namespace.node().kubectl_command();
    command.args(["-n", namespace.name(), "exec", "reader", "--"]);
    command.args(["tar", "-C", "/repository", "-cf", "-", "."]);
    let status = command.stdout(File::create(&archive).unwrap()).status().unwrap();
    assert!(status.success(), "the claim could not be read");
    let target = namespace.scratch().dir("repository");
    let mut unpack = hardstorage_e2e::unprivileged("tar");
    unpack.arg("-C").arg(&target).arg("-xf").arg(&archive);
    run(unpack, Duration::from_mins(1)).ok();
    namespace.delete(&["pod/reader"]);
    target.display().to_string()
}
