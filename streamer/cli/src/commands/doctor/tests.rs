//! What the doctor shows.

use hardstorage_engine::inspect::SlotView;
use hardstorage_engine::source::ServerIdentity;
use hardstorage_report::{Lsn, SegmentSize, SystemId, Timeline};

use super::deployment::ServerLook;
use super::*;
use crate::commands::samples::time;
use crate::commands::status::tests::protected;
use crate::printer::shown;

pub(super) fn server() -> ServerLook {
    ServerLook {
        identity: ServerIdentity {
            system_id: SystemId(7_519_000_000_000_000_001),
            timeline: Timeline(2),
            flush_lsn: Lsn(0x500_1000),
            version_num: 180_006,
            version: "18.6".to_owned(),
            block_size: 8192,
            wal_segment_size: SegmentSize::from_setting("16MB").unwrap(),
            relation_segment_size: 1 << 30,
            data_checksums: Some(true),
            standby: false,
        },
        slot: "pg_hardstorage_db1".to_owned(),
        slot_exists: true,
        slot_view: Some(SlotView {
            active: true,
            wal_status: Some("reserved".to_owned()),
            retained_bytes: Some(4096),
        }),
        pushes: false,
        archiver: None,
        sql_problem: None,
        clock_ahead_ms: Some(3),
    }
}

fn result() -> DoctorResult {
    let place = |name, path: &str, mode: Option<&str>| Place {
        name,
        path: path.into(),
        mode: mode.map(str::to_owned),
    };
    DoctorResult {
        mode: "user",
        paths: vec![
            place(
                "Config",
                "/home/p/.config/pg_hardstorage/pg_hardstorage.yaml",
                Some("-rw-------"),
            ),
            place("keyring", "/home/p/.config/pg_hardstorage/keyring", None),
        ],
        configured: true,
        keyring: Keys {
            directory: "/home/p/.config/pg_hardstorage/keyring".into(),
            kek_fingerprint: Some("4c67e4e255cfece9".to_owned()),
            signer_fingerprint: None,
            exported: Some(true),
        },
        repositories: vec![RepositoryLook {
            url: "file:///srv/backup".to_owned(),
            reachable: true,
            id: Some("9bc6".to_owned()),
            encrypted: Some(true),
            key_fits: Some(true),
            free_bytes: Some(5 << 30),
        }],
        deployments: vec![DeploymentLook {
            deployment: "db1".parse().unwrap(),
            server: Some(server()),
            status: Some(protected()),
        }],
        issues: Vec::new(),
        generated: time("2026-11-22T08:15:00Z"),
    }
}

#[test]
fn each_deployment_is_looked_at_in_its_own_repository() {
    let name = |text: &str| text.parse::<DeploymentName>().unwrap();
    let url = |text: &str| Some(text.to_owned());
    let configured = [(name("a"), url("one")), (name("b"), None), (name("new"), None)];
    let there = [("one", vec![name("c")]), ("two", vec![name("a"), name("b"), name("d")])];
    let found = located(configured.into_iter(), there);
    let wanted = [
        (name("a"), url("one")),
        (name("b"), url("two")),
        (name("c"), url("one")),
        (name("d"), url("two")),
        (name("new"), None),
    ];
    assert_eq!(found, wanted.into());
}

#[test]
fn nothing_is_wrong() {
    insta::assert_snapshot!(shown("doctor", &result()));
}

#[test]
fn what_is_wrong_says_what_to_do() {
    let mut ill = result();
    let repository = &mut ill.repositories[0];
    (repository.reachable, repository.free_bytes) = (false, None);
    (repository.encrypted, repository.key_fits) = (None, None);
    ill.deployments[0].status = None;
    ill.deployments[0].server = None;
    ill.issues = vec![
        Issue::error(
            "unreachable.store",
            "file:///srv/backup",
            "it is not mounted",
            "mount it",
        ),
        Issue::warning(
            "key.not_exported",
            "keyring",
            "never copied",
            "pg_hardstorage keyring export DIR",
        ),
    ];
    assert!(ill.issues.is_sorted_by_key(|issue| issue.severity));
    insta::assert_snapshot!(ill.text());
}
