//! A Restore, for tests.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]

use hardstorage_crds::Restore;
use serde_json::{Value, json};

pub const UID: &str = "11111111-2222-3333-4444-555555555555";
pub const ID: &str = "team.orders.full.20260101T000000Z.00aa";

/// A Restore `back` of Deployment `orders` in namespace `team`, to a new claim unless the spec says another destination.
pub fn object(spec: Value, status: Value) -> Value {
    let mut whole = json!({
        "source": {"deploymentRef": {"name": "orders"}},
        "backup": "latest",
        "onUnreachable": "Refuse",
        "dryRun": false,
        "destination": {"persistentVolumeClaim": {"name": "pg", "create": {}}},
        "subscriptions": "Disable",
        "backoffLimit": 2,
        "activeDeadline": "24h",
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": "back", "namespace": "team", "uid": UID, "generation": 1,
            "creationTimestamp": "2026-01-02T08:00:00Z",
            "labels": {"argocd.argoproj.io/instance": "app"}},
        "spec": whole, "status": status})
}

pub fn restore(spec: Value, status: Value) -> Restore {
    serde_json::from_value(object(spec, status)).unwrap()
}

/// What the engine says of a plan.
pub fn plan_result() -> Value {
    json!({
        "backup_id": ID, "deployment": "team.orders", "target_dir": "/restore/pgdata", "pg_version": "18.6",
        "postgres": {"major": 18, "minor": 6}, "system_identifier": "7512345678901234567", "action": "promote",
        "reaches": "the end of the archive", "start_lsn": "0/2", "start_segment": "000000020000000000000001",
        "stop_lsn": "0/3", "stopped_at": "2026-01-01T00:00:10Z", "file_count": 1, "preflight_ok": true,
        "target": {"kind": "latest", "inclusive": true}, "stop_at": {"kind": "latest", "inclusive": true},
        "target_timeline": 3, "timeline": 2, "total_bytes": 10 << 20, "wal_bytes": 2 << 20, "problems": [],
        "warnings": ["a note"], "reachable": {"from": "2026-01-01T00:00:10Z", "to": "2026-01-02T07:59:00Z",
            "from_lsn": "0/3", "timeline": 3, "backup_id": ID},
        "source_snapshot": {"image": "postgres:18", "cluster": {"spec": {"instances": 2, "storage": {"size": "1Gi"},
            "imagePullSecrets": [{"name": "registry"}], "affinity": {"nodeSelector": {"disk": "fast"}}}}},
    })
}

/// A status with a plan.
pub fn planned() -> Value {
    json!({
        "phase": "Planned",
        "target": {"moment": "latest", "timeline": 3, "backupID": ID},
        "plan": {"bytes": "10Mi", "neededBytes": 12 << 20, "sourceSnapshot": plan_result()["source_snapshot"]},
        "steps": [{"name": "Plan", "time": "2026-01-02T08:01:00Z"}],
    })
}
