//! The parts of a manifest that a status shows: completed by what an owner writes beside them, Zalando's and Crunchy's own
//! definitions take them on a real API server, and refuse them when a field is written otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use hardstorage_e2e::{Answer, ApiServer, cache_root};

use super::*;
use crate::pod::Image;
use crate::restore::destination;
use crate::restore::samples::{planned, restore};

fn shown(patroni: Value) -> String {
    let mut status = planned();
    status["plan"]["sourceSnapshot"] = json!({"image": "patroni:15", "claimSize": "1Gi"});
    status["plan"]["postgresVersion"] = json!("15.19");
    let object = restore(json!({"destination": {"patroni": patroni}}), status);
    let engine = Image {
        name: "engine:1".into(),
        pull_policy: "Always".into(),
    };
    destination::next(&object, &engine).unwrap().manifest.unwrap()
}

fn taken(server: &ApiServer, text: &str) -> Answer {
    let path = server.scratch().path("shown.yaml");
    std::fs::write(&path, text).unwrap();
    server.kubectl([
        "create",
        "--validate=strict",
        "--dry-run=server",
        "-f",
        &path.display().to_string(),
    ])
}

#[test]
fn their_definitions_take_what_a_status_shows() {
    let server = ApiServer::start();
    for which in ["zalando", "crunchy"] {
        let folder = cache_root().join("definitions").join(which);
        assert!(
            folder.is_dir(),
            "{} is missing: run scripts/fetch-definitions",
            folder.display()
        );
        server
            .kubectl(["apply", "--server-side", "-f", &folder.display().to_string()])
            .ok();
    }
    server.established();
    // The part, what an owner adds, and a field that would be theirs under another name.
    let cases = [
        (
            shown(json!({"flavor": "Zalando", "statefulSet": "acid-orders"})) + "  teamId: acid\n",
            "numberOfInstances",
        ),
        (
            shown(json!({"flavor": "Crunchy", "claim": "orders-back"}))
                .replace("spec:\n", "metadata: {name: orders}\nspec:\n")
                + "  backups: {pgbackrest: {repos: [{name: repo1, volume: {volumeClaimSpec: {accessModes: [ReadWriteOnce], \
                   resources: {requests: {storage: 1Gi}}}}}]}}\n",
            "pvcName",
        ),
    ];
    for (text, field) in cases {
        taken(&server, &text).ok();
        let refused = taken(&server, &text.replace(field, "another"));
        assert!(
            refused.code == Some(1) && refused.stderr.contains("another"),
            "{refused}"
        );
    }
}
