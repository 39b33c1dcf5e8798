//! Status: what the operator writes is kept whole, and is what kubectl shows.

use hardstorage_e2e::ApiServer;
use serde_json::{Value, json};

use crate::sample::samples;
use crate::{apply, installed};

fn write_status(server: &ApiServer, kind: &str, name: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    server
        .kubectl([
            "patch",
            kind,
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .ok();
}

/// The header and the row of the object, by columns; an age is text without a blank, like everything else that is set.
fn table(server: &ApiServer, kind: &str) -> Vec<(String, String)> {
    let text = server.kubectl(["get", kind, "x", "-o", "wide"]).ok().stdout;
    let mut lines = text.lines();
    let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
    let columns = header.split_whitespace().zip(row.split_whitespace());
    assert_eq!(
        header.split_whitespace().count(),
        row.split_whitespace().count(),
        "{text}"
    );
    columns
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn without_ages(columns: &[(String, String)]) -> Vec<(&str, &str)> {
    let ages = ["AGE", "LAST-CHECK", "LAST-BACKUP", "OBSERVED", "STARTED", "LAST"];
    columns
        .iter()
        .filter(|(name, _)| !ages.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn every_status_is_kept_whole_and_shown() {
    let server = installed();
    let kinds = [
        ("backup", "hsbk"),
        ("deployment", "hsdep"),
        ("repository", "hsrepo"),
        ("restore", "hsrs"),
        ("schedule", "hssched"),
    ];
    for (sample, (name, kind)) in samples("status").iter().zip(kinds) {
        assert_eq!(sample.name, name);
        let mut object: Value = serde_saphyr::from_str(&sample.documents[0]).unwrap();
        let status = object["status"].take();
        apply(&server, kind, &object.to_string(), "default");
        write_status(&server, kind, "x", &status);
        let stored = server.kubectl(["get", kind, "x", "-o", "json"]).ok().json();
        assert_eq!(stored["status"], status, "of {name}");
        server
            .kubectl(["wait", &format!("{kind}/x"), "--for=condition=Ready", "--timeout=30s"])
            .ok();
    }
    let columns = kinds.map(|(_, kind)| table(&server, kind));
    let [backup, deployment, repository, restore, schedule] = columns.each_ref().map(|columns| without_ages(columns));
    assert_eq!(
        backup,
        [
            ("NAME", "x"),
            ("DEPLOYMENT", "orders"),
            ("TYPE", "Full"),
            ("PHASE", "Completed"),
            ("DURATION", "3m20s"),
            ("SIZE", "1.3Gi"),
            ("STORED", "400Mi"),
            ("VERIFIED", "Passed"),
        ]
    );
    assert_eq!(
        deployment,
        [
            ("NAME", "x"),
            ("SOURCE", "CloudNativePG"),
            ("REPOSITORY", "main"),
            ("PHASE", "Streaming"),
            ("LAG(S)", "2"),
            ("FROM", "2026-10-22T08:15:00Z"),
            ("TO", "2026-11-22T08:15:00Z"),
            ("SLOT", "pg_hardstorage_x"),
            ("TIMELINE", "3"),
            ("POD", "x-wal-0"),
        ]
    );
    assert_eq!(
        repository,
        [
            ("NAME", "x"),
            ("URL", "s3://backups/team-a"),
            ("READY", "True"),
            ("BACKUPS", "28"),
            ("SIZE", "1.3Gi"),
            ("ID", "0194f3a2"),
            ("KEY-EXPORTED", "False"),
        ]
    );
    assert_eq!(
        restore,
        [
            ("NAME", "x"),
            ("SOURCE", "orders"),
            ("TARGET", "2026-11-22T08:15:00Z"),
            ("PHASE", "Completed"),
            ("DONE%", "100"),
            ("RECOVERED-TO", "2026-11-22T08:14:59.123456Z"),
            ("DESTINATION", "orders-0815"),
            ("DRILL", "Failed"),
        ]
    );
    assert_eq!(
        schedule,
        [
            ("NAME", "x"),
            ("DEPLOYMENT", "orders"),
            ("SCHEDULE", "@daily-random"),
            ("TYPE", "Auto"),
            ("SUSPEND", "false"),
            ("RESULT", "Failed"),
            ("NEXT", "2030-11-23T03:17:00Z"),
        ]
    );
    // A time that a column shows as an age is an age, and one that lies ahead is not.
    for (name, value) in columns.iter().flatten() {
        assert!(!value.contains("invalid"), "{name} shows {value}");
    }
}

#[test]
fn a_mirror_shows_its_name_in_the_repository() {
    let server = installed();
    let mirror = json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "x"},
        "spec": {"recorded": {"repositoryRef": {"name": "main"}, "name": "team-a.orders", "backupID": "id"}},
    });
    apply(&server, "mirror", &mirror.to_string(), "default");
    // The definition may be older than the operator: a word of a later version is a word too.
    write_status(&server, "hsbk", "x", &json!({"phase": "Archived"}));
    let row = server.kubectl(["get", "hsbk", "--no-headers"]).ok().stdout;
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["x", "team-a.orders", "Archived"]);
    let found = server.kubectl(["get", "hardstorage", "-o", "name"]).ok();
    assert_eq!(found.text(), "backup.hardstorage.dev/x", "the category holds all kinds");
    let explained = server
        .kubectl(["explain", "hsdep.spec.stream.flushInterval"])
        .ok()
        .stdout;
    assert!(explained.contains("default 10s"), "{explained}");
}
