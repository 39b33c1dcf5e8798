//! First members, as they are wanted and as they are found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use super::*;
use crate::names::annotation;
use crate::pod::{Image, User};
use crate::restore::destination::{self, IN_USE, USED, Wanted};
use crate::restore::samples::{UID, planned, restore};

const SYSTEM: &str = "7512345678901234567";

fn engine() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "Always".into(),
    }
}

fn into(patroni: Value, snapshot: Value) -> Restore {
    let mut status = planned();
    status["plan"]["sourceSnapshot"] = snapshot;
    status["plan"]["systemIdentifier"] = json!(SYSTEM);
    status["plan"]["postgresVersion"] = json!("18.6");
    restore(json!({"destination": {"patroni": patroni}}), status)
}

fn recorded() -> Value {
    json!({"type": "Patroni", "scope": "orders", "image": "patroni:18", "uid": 70, "gid": 71, "claimSize": "1Gi"})
}

fn plain() -> Value {
    json!({"flavor": "Plain", "statefulSet": "orders", "claim": "data"})
}

fn want(patroni: Value, snapshot: Value) -> Result<Wanted, Refusal> {
    destination::wanted(&into(patroni, snapshot), &engine())
}

fn size(wanted: &Wanted) -> String {
    let spec = wanted.claims[0].spec.clone().unwrap();
    spec.resources.unwrap().requests.unwrap()["storage"].0.clone()
}

#[test]
fn the_first_claim_of_each_flavor() {
    let user = |uid, gid| User { uid, gid };
    let zalando = json!({"flavor": "Zalando", "statefulSet": "acid-orders"});
    let crunchy = json!({"flavor": "Crunchy", "claim": "orders-back"});
    let bare = json!({"image": "patroni:18"});
    let cases = [
        (
            plain(),
            recorded(),
            "data-orders-0",
            "/restore/pgdata",
            user(70, 71),
            "1Gi",
        ),
        (
            plain(),
            bare.clone(),
            "data-orders-0",
            "/restore/pgdata",
            user(999, 999),
            "14Mi",
        ),
        (
            zalando,
            bare.clone(),
            "pgdata-acid-orders-0",
            "/restore/pgroot/data",
            user(101, 103),
            "14Mi",
        ),
        (
            crunchy,
            bare.clone(),
            "orders-back",
            "/restore/pgdata",
            user(26, 26),
            "14Mi",
        ),
        (
            json!({"flavor": "Plain", "statefulSet": "a", "claim": "b", "path": "x/y", "uid": 5, "gid": 6,
                "create": {"size": "20Mi"}}),
            recorded(),
            "b-a-0",
            "/restore/x/y",
            user(5, 6),
            "20Mi",
        ),
        // What was recorded is too small by now, or was written by somebody else.
        (
            plain(),
            json!({"image": "p", "uid": 0, "gid": -1, "claimSize": "13Mi"}),
            "data-orders-0",
            "/restore/pgdata",
            user(999, 999),
            "14Mi",
        ),
    ];
    for (patroni, snapshot, claim, directory, user, bytes) in cases {
        let wanted = want(patroni.clone(), snapshot).unwrap();
        assert_eq!(wanted.claims[0].metadata.name.as_deref(), Some(claim), "{patroni}");
        assert_eq!(wanted.data.mounts[0].claim, claim);
        assert_eq!(
            (wanted.directory.as_str(), wanted.data.user),
            (directory, user),
            "{patroni}"
        );
        assert_eq!(size(&wanted), bytes, "{patroni}");
        // It is always recovered: Patroni would not stop at the moment.
        assert!(wanted.postgres.is_some() && wanted.data.engine.is_some());
        assert_eq!(wanted.claims[0].metadata.owner_references, None);
    }
}

#[test]
fn what_cannot_be_made_is_said() {
    let reason = |patroni: Value, snapshot: Value| want(patroni, snapshot).unwrap_err().reason;
    assert_eq!(reason(plain(), json!({"type": "Patroni"})), "ImageUnknown");
    assert_eq!(reason(json!({"flavor": "Stolon"}), recorded()), "DestinationUnknown");
    let mut object = into(plain(), recorded());
    let plan = object.status.as_mut().unwrap().plan.as_mut().unwrap();
    plan.tablespaces = vec!["/mnt/hot".into()];
    let refused = destination::wanted(&object, &engine()).unwrap_err();
    assert_eq!(refused.reason, "TablespacesUnplaced");
    let mut named = into(plain(), Value::Null);
    named.spec.postgres_image = Some("patroni:17".into());
    assert_eq!(
        destination::wanted(&named, &engine()).unwrap().postgres.unwrap().name,
        "patroni:17"
    );
}

fn claim(name: &str, annotations: Value, going: bool) -> PersistentVolumeClaim {
    let gone = going.then_some("2026-01-01T00:00:00Z");
    serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations, "deletionTimestamp": gone}}))
        .unwrap()
}

fn pod(name: &str, going: bool) -> Pod {
    let gone = going.then_some("2026-01-01T00:00:00Z");
    serde_json::from_value(json!({"metadata": {"name": name, "deletionTimestamp": gone}})).unwrap()
}

fn set(replicas: Value, templates: &[&str]) -> StatefulSet {
    let templates: Vec<Value> = templates
        .iter()
        .map(|name| json!({"metadata": {"name": name}}))
        .collect();
    serde_json::from_value(
        json!({"metadata": {"name": "orders"}, "spec": {"replicas": replicas, "serviceName": "m",
        "selector": {}, "template": {}, "volumeClaimTemplates": templates}}),
    )
    .unwrap()
}

fn kept(kind: &'static str, name: &str, annotations: &[(&str, &str)]) -> Kept {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Kept {
        kind,
        name: name.to_owned(),
        annotations: annotations.iter().map(text).collect::<BTreeMap<_, _>>(),
    }
}

fn set_of(replicas: Value, template: &str) -> Found {
    Found {
        stateful_set: Some(set(replicas, &[template])),
        ..Found::default()
    }
}

fn claims(claims: Vec<PersistentVolumeClaim>) -> Found {
    Found {
        claims,
        ..Found::default()
    }
}

#[test]
fn a_cluster_that_lives_or_has_other_rows_is_refused() {
    let (theirs, ours) = (json!({}), json!({annotation::RESTORE_UID: UID}));
    let one = |name: &str| claims(vec![claim(name, theirs.clone(), false)]);
    let nothing = Found::default;
    let others = ["data-orders-x", "data-orders-", "wal-orders-1", "data-other-1"];
    let cases: Vec<(Found, Vec<Pod>, &str, bool)> = vec![
        (nothing(), vec![], "", false),
        (set_of(json!(0), "data"), vec![], "", false),
        (set_of(json!(2), "data"), vec![], IN_USE, false),
        // Its default is one.
        (set_of(Value::Null, "data"), vec![], IN_USE, false),
        (set_of(json!(0), "pgdata"), vec![], "ClaimNotOfStatefulSet", false),
        (nothing(), vec![pod("orders-1", false)], IN_USE, false),
        (nothing(), vec![pod("orders-1", true)], "PodEnding", true),
        (
            nothing(),
            vec![pod("orders-0", true), pod("orders-1", false)],
            IN_USE,
            false,
        ),
        (
            nothing(),
            vec![pod("orders-wal-7d9", false), pod("orders", false)],
            "",
            false,
        ),
        (one("data-orders-1"), vec![], USED, false),
        (one("data-orders-0"), vec![], USED, false),
        (claims(vec![claim("data-orders-0", ours, false)]), vec![], "", false),
        (
            claims(vec![claim("data-orders-12", theirs.clone(), true)]),
            vec![],
            "ClaimDeleting",
            true,
        ),
        (
            claims(others.map(|name| claim(name, theirs.clone(), false)).into()),
            vec![],
            "",
            false,
        ),
    ];
    let object = into(plain(), recorded());
    let to = object.spec.destination.patroni.clone().unwrap();
    for (number, (found, pods, reason, waits)) in cases.into_iter().enumerate() {
        let got = judge(&object, &to, &found, &pods).err();
        let got = got.map_or_else(Default::default, |refusal| (refusal.reason, refusal.waits));
        assert_eq!(got, (reason.to_owned(), waits), "case {number}");
    }
    // Crunchy's operator names its own sets: only the claim counts.
    let crunchy = into(json!({"flavor": "Crunchy", "claim": "orders-back"}), recorded());
    let to = crunchy.spec.destination.patroni.clone().unwrap();
    let found = one("data-orders-1");
    assert!(judge(&crunchy, &to, &found, &[pod("orders-1", false)]).is_ok());
}

#[test]
fn what_patroni_has_kept_is_put_away_by_a_command_that_is_said() {
    let object = into(plain(), recorded());
    let to = object.spec.destination.patroni.clone().unwrap();
    let said = |kept: Vec<Kept>| {
        let found = Found {
            kept,
            ..Found::default()
        };
        judge(&object, &to, &found, &[]).err()
    };
    let harmless = vec![
        kept("endpoints", "orders", &[("transitions", "2"), ("leader", "")]),
        kept(
            "endpoints",
            "orders-config",
            &[("initialize", SYSTEM), ("history", "[]"), ("config", "{}")],
        ),
        kept("configmap", "orders-config", &[]),
    ];
    assert_eq!(said(harmless), None);
    let left = said(vec![
        kept(
            "endpoints",
            "orders",
            &[("leader", "orders-1"), ("optime", "101644584"), ("ttl", "20")],
        ),
        kept("endpoints", "orders-config", &[("initialize", "7"), ("config", "{}")]),
        kept(
            "configmap",
            "orders-sync",
            &[("leader", "orders-1"), ("sync_standby", "orders-2")],
        ),
    ]);
    let left = left.unwrap();
    assert!(left.waits && left.reason == "PatroniStateLeft", "{left:?}");
    for part in [
        "leader orders-1, optime 101644584",
        "initialize 7",
        "under the scope orders",
    ] {
        assert!(left.message.contains(part), "{part}: {}", left.message);
    }
    for command in [
        "kubectl annotate endpoints orders -n team leader- optime-;",
        &format!("kubectl annotate endpoints orders-config -n team initialize={SYSTEM} history- --overwrite;"),
        "kubectl annotate configmap orders-sync -n team leader- sync_standby-;",
    ] {
        assert!(left.hint.contains(command), "{command}: {}", left.hint);
    }
}

fn next_of(patroni: Value) -> hardstorage_crds::NextStep {
    destination::next(&into(patroni, recorded()), &engine()).unwrap()
}

#[test]
fn the_next_step_is_what_the_owner_does() {
    let next = next_of(plain());
    assert!(
        next.text
            .contains("kubectl scale statefulset/orders -n team --replicas=1"),
        "{next:?}"
    );
    assert!(
        next.text.contains("claim data-orders-0") && next.text.contains("when orders-0 leads"),
        "{next:?}"
    );
    assert_eq!(next.manifest, None);
    let next = next_of(json!({"flavor": "Zalando", "statefulSet": "acid-orders"}));
    let manifest = next.manifest.unwrap();
    assert!(
        manifest.contains("metadata: {name: acid-orders}") && manifest.contains("version: \"18\""),
        "{manifest}"
    );
    assert!(next.text.contains("passwords in acid-orders-0"), "{}", next.text);
    let next = next_of(json!({"flavor": "Crunchy", "claim": "orders-back"}));
    let manifest = next.manifest.unwrap();
    assert!(
        manifest.contains("pvcName: orders-back\n        directory: pgdata\n"),
        "{manifest}"
    );
    assert!(
        manifest.contains("postgresVersion: 18\n") && manifest.contains("storage: 1Gi"),
        "{manifest}"
    );
    let other = restore(json!({}), planned());
    assert_eq!(destination::next(&other, &engine()), None);
}
