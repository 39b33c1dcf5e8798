//! Jobs as they are built.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::access::{RepositoryAccess, SecretKey};
use crate::repository::Resolved;
use crate::restore::destination;
use crate::restore::samples::{ID, UID, planned, restore};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;

fn source() -> Source {
    Source {
        repository: Resolved {
            repository: serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
                "metadata": {"name": "main", "namespace": "team"}, "spec": {"url": "s3://b/p"}}))
            .unwrap(),
            access: RepositoryAccess {
                namespace: "team".into(),
                name: "main".into(),
                url: "s3://b/p".into(),
                credentials: None,
                service_account: None,
                ca: None,
                kek: Some(SecretKey {
                    secret: "main-kek".into(),
                    key: "kek".into(),
                }),
                signing: SecretKey {
                    secret: "main-signing".into(),
                    key: "signing-key".into(),
                },
                claim: None,
                shared_claim: false,
                read_only: true,
            },
        },
        name: "team.orders".into(),
    }
}

fn image() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

fn built(spec: Value, status: Value) -> (JobPlan, JobPlan) {
    let (object, source, engine) = (restore(spec, status), source(), image());
    let ground = Ground {
        restore: &object,
        source: &source,
        engine: &engine,
        surroundings: Surroundings::default(),
    };
    let wanted = destination::wanted(&object, &engine).unwrap();
    let time = crate::restore::target::wanted_time(&object).unwrap();
    (plan(&ground, time, None), run(&ground, &wanted))
}

fn arguments(plan: &JobPlan) -> Vec<String> {
    let spec = plan.pod.spec.as_ref().unwrap();
    let all = spec.containers[0].args.clone().unwrap();
    let end = all.iter().position(|word| word == "--credentials-dir").unwrap();
    all[..end].to_vec()
}

#[test]
fn a_plan_reads_and_writes_nothing() {
    let spec = json!({"recoveryTarget": {"time": "1 hour ago"}});
    let (plan, _) = built(spec, planned());
    assert_eq!(
        arguments(&plan),
        [
            "restore",
            "team.orders",
            "latest",
            "--repo=s3://b/p",
            "--target=/restore/pgdata",
            "--preview",
            "--to=2026-01-02T07:00:00Z",
            "--wal-in-target",
        ]
    );
    assert_eq!((plan.backoff_limit, plan.labels[label::RESTORE].as_str()), (0, "back"));
    let spec = plan.pod.spec.unwrap();
    assert!(
        spec.volumes
            .unwrap()
            .iter()
            .all(|volume| volume.persistent_volume_claim.is_none())
    );
}

#[test]
fn a_run_is_what_was_planned() {
    let mut status = planned();
    // As it comes back from the API server: a part of a second less is another restore.
    let time = "2026-01-02T07:00:00.123456Z".parse().unwrap();
    status["target"]["time"] = serde_json::to_value(MicroTime(time)).unwrap();
    let spec = json!({"recoveryTarget": {"time": "1 hour ago"}, "activeDeadline": "1h", "backoffLimit": 5});
    let (_, run) = built(spec, status);
    assert_eq!(
        arguments(&run),
        [
            "restore",
            "team.orders",
            ID,
            "--repo=s3://b/p",
            "--target=/restore/pgdata",
            "--to=2026-01-02T07:00:00.123456Z",
            "--to-timeline=3",
            &format!("--retry-id={UID}"),
            "--owner=26:26",
            "--to-action=promote",
            "--wal-in-target",
        ]
    );
    assert_eq!((run.backoff_limit, run.active_deadline), (5, 3600));
    assert_eq!(run.owner.as_ref().unwrap().uid, UID);
    let text = serde_json::to_string(&run.pod).unwrap();
    assert!(!text.contains("signing") && !text.contains("pg-connection"), "{text}");
    assert!(!run.labels.contains_key("argocd.argoproj.io/instance"));
}

#[test]
fn a_cluster_is_recovered_by_its_own_postgresql() {
    let spec = json!({"destination": {"cloudNativePG": {"cluster": "again"}}, "subscriptions": "Keep"});
    let (plan, run) = built(spec, planned());
    assert!(!arguments(&plan).contains(&"--wal-in-target".to_owned()));
    assert_eq!(
        arguments(&run)[4..],
        [
            "--target=/var/lib/postgresql/data/pgdata",
            "--to-latest",
            "--to-timeline=3",
            &format!("--retry-id={UID}"),
            "--owner=26:26",
            "--hand-over=cnpg",
            "--pg-bin=auto",
            "--subscriptions=keep",
            "--recover",
        ]
    );
    let spec = run.pod.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("postgres:18"));
    assert_eq!(spec.init_containers.unwrap()[0].image.as_deref(), Some("engine:1"));
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(spec.node_selector.unwrap()["disk"], "fast");
    let context = spec.security_context.unwrap();
    assert_eq!((context.run_as_user, context.fs_group), (Some(26), Some(26)));
}

#[test]
fn the_users_words_on_pods_go_before_the_clusters() {
    let spec = json!({"destination": {"cloudNativePG": {"cluster": "again"}},
        "podTemplate": {"nodeSelector": {"disk": "slow"}}});
    let (_, run) = built(spec, planned());
    assert_eq!(run.pod.spec.unwrap().node_selector.unwrap()["disk"], "slow");
}

#[test]
fn a_claim_may_be_recovered_too() {
    let (plan, run) = built(json!({"postgresImage": "postgres:17"}), planned());
    assert!(!arguments(&plan).contains(&"--wal-in-target".to_owned()));
    let words = arguments(&run);
    assert!(words.contains(&"--hand-over=plain".to_owned()) && words.contains(&"--recover".to_owned()));
    assert!(!words.contains(&"--wal-in-target".to_owned()));
}

#[test]
fn a_copy_lies_on_one_claim_and_runs_where_there_is_room() {
    let mut status = planned();
    status["plan"]["tablespaces"] = json!(["/mnt/hot", "/mnt/cold"]);
    let (plan, run) = built(
        json!({"destination": {"drill": {}}, "podTemplate": {"nodeSelector": {"disk": "slow"}}}),
        status,
    );
    assert!(!arguments(&plan).contains(&"--wal-in-target".to_owned()));
    assert_eq!(
        arguments(&run)[4..],
        [
            "--target=/var/lib/postgresql/data/pgdata",
            "--to-latest",
            "--to-timeline=3",
            &format!("--retry-id={UID}"),
            "--owner=65532:65532",
            "--tablespace-mapping=/mnt/hot=/var/lib/postgresql/data/tablespaces/0",
            "--tablespace-mapping=/mnt/cold=/var/lib/postgresql/data/tablespaces/1",
            "--hand-over=drill",
            "--pg-bin=auto",
            "--subscriptions=disable",
            "--recover",
        ]
    );
    let spec = run.pod.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("postgres:18"));
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(spec.node_selector.unwrap()["disk"], "slow", "not that of the Cluster");
}

#[test]
fn the_nearest_moment_is_another_job() {
    let object = restore(json!({}), Value::Null);
    let time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_ne!(plan_name(&object, None), plan_name(&object, Some(time)));
    assert_ne!(plan_name(&object, None), run_name(&object));
    assert_eq!(run_name(&object), run_name(&object));
}
