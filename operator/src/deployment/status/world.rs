//! A world in which everything is well, for the tests of this folder to change.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "test code"
)]

use serde_json::{Value, json};

use super::*;
use crate::deployment::samples::deployment;
use crate::deployment::source::{Kind, State};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn ready_source() -> SourceFacts {
    SourceFacts {
        primary: Some("shop-1".into()),
        version: Some("18.6".into()),
        system_identifier: Some("7".into()),
        cluster_uid: Some("cluster-1".into()),
        ..SourceFacts::unknown(Kind::CloudNativePg, State::Ready)
    }
}

pub fn report(stream: &Value) -> RunReport {
    let mut whole = json!({"deployment": "team.orders", "phase": "streaming", "slot": "ours", "slot_health": "active",
        "system_id": "7", "timeline": 3, "received_lsn": "0/3000100", "durable_lsn": "0/3000000", "server_lsn": "0/3000200",
        "lag_bytes": 512, "lag_seconds": 1.5, "recoverable_from": "2027-01-15T00:00:00Z",
        "recoverable_to": "2027-01-15T07:00:00Z", "segments": 1, "bytes_received": 2, "connections": 1, "gaps": 0,
        "last_error": null, "started_at": at(-100).to_string(), "heard_at": at(0).to_string()});
    for (key, value) in stream.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "0.2.0");
    report.stream = Some(serde_json::from_value(whole).unwrap());
    report
}

pub fn heard(stream: &Value) -> Heard {
    Heard::Now(Box::new(report(stream)))
}

pub fn error(code: &str) -> Value {
    json!({"code": code, "message": "it says no", "hint": "do something", "exit_code": 4})
}

/// A world in which everything is well, to be changed.
pub struct World {
    pub deployment: ProtectedDeployment,
    pub collision: Option<Collision>,
    pub refusal: Option<Refusal>,
    pub source: SourceFacts,
    pub systems: Systems,
    pub lineages: Vec<Lineage>,
    pub has_child: bool,
    pub pod: Option<PodFacts>,
    pub heard: Heard,
    pub slot: Option<SlotWord>,
    pub turn: Turn,
    pub newest: Option<BackupRecord>,
    pub now: Timestamp,
}

impl World {
    pub fn well() -> World {
        World {
            deployment: deployment("team", "orders"),
            collision: None,
            refusal: None,
            source: ready_source(),
            systems: Systems::Same,
            lineages: vec![Lineage {
                name: "team.orders".into(),
                system_identifier: "7".into(),
                current: true,
            }],
            has_child: true,
            pod: Some(PodFacts {
                name: "orders-wal-1".into(),
                phase: "Running".into(),
                ..PodFacts::default()
            }),
            heard: heard(&json!({})),
            slot: None,
            turn: Turn::Go,
            newest: None,
            now: at(0),
        }
    }

    pub fn status(&self) -> DeploymentStatus {
        status(&Findings {
            deployment: &self.deployment,
            collision: self.collision.as_ref(),
            refusal: self.refusal.as_ref(),
            source: &self.source,
            systems: &self.systems,
            lineages: &self.lineages,
            has_child: self.has_child,
            pod: self.pod.as_ref(),
            heard: &self.heard,
            slot: self.slot.as_ref(),
            turn: &self.turn,
            newest: self.newest.as_ref(),
            now: self.now,
        })
        .0
    }
}

pub fn said(status: &DeploymentStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or_else(|| "-".to_owned(), |found| format!("{}/{}", found.status, found.reason))
}
