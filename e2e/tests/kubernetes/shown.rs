//! What a person sees who asks kubectl: every column filled, `kubectl wait` for each kind, and the words of others mean what
//! they meant before.

use std::fs;

use hardstorage_e2e::kubernetes::is;
use serde_json::Value;

use crate::restore::object;
use crate::site::{PATIENCE, SCHEDULE, Site, step};

/// Each kind, as it is asked for and as kubectl heads its columns.
const KINDS: [(&str, &str); 4] = [
    ("hsrepo", "NAME URL READY BACKUPS SIZE LAST-CHECK AGE"),
    (
        "hsdep",
        "NAME SOURCE REPOSITORY PHASE LAG(S) FROM TO LAST-BACKUP OBSERVED AGE",
    ),
    ("hssched", "NAME DEPLOYMENT SCHEDULE TYPE SUSPEND LAST RESULT NEXT AGE"),
    (
        "hsbk",
        "NAME DEPLOYMENT TYPE PHASE STARTED DURATION SIZE STORED VERIFIED AGE",
    ),
];

#[test]
fn kubectl_shows_what_a_user_looks_for() {
    let site = Site::streaming("e2e-shown", 1);
    let namespace = &site.namespace;
    namespace.apply(&SCHEDULE.replace("* * * * *", "0 0 1 1 *"));
    namespace.until_condition("hssched/shop", "Ready", PATIENCE);

    step("a run of the schedule, a check, and a look at the catalogue");
    namespace
        .kubectl(&["create", "job", "first", "--from=cronjob/shop"])
        .ok();
    site.until_completed("first");
    namespace
        .kubectl(&["create", "job", "check", "--from=cronjob/main-check"])
        .ok();
    namespace
        .kubectl(&["annotate", "hsrepo/main", "hardstorage.dev/sync-now=1"])
        .ok();
    let known = |object: &Value| object["status"]["backups"] == 1 && object["status"]["lastCheck"].is_object();
    namespace.until_object("hsrepo/main", "it counts the backup and was checked", PATIENCE, known);
    let recoverable = |object: &Value| object["status"]["recoverable"]["to"].is_string();
    namespace.until_object("hsdep/shop", "it can be restored", PATIENCE, recoverable);
    let ran = |object: &Value| is(object, "LastRunSucceeded", "True");
    namespace.until_object("hssched/shop", "it has run", PATIENCE, ran);

    step("a drill has proven the backup");
    namespace.apply(&object("proof", "  destination: {drill: {}}\n"));
    namespace.until_object("hsbk/first", "it was verified", 2 * PATIENCE, |object| {
        is(object, "Verified", "True")
    });

    step("kubectl wait for each kind");
    for (kind, _) in KINDS {
        let words = ["wait", kind, "--all", "--for=condition=Ready", "--timeout=60s"];
        namespace.kubectl(&words).ok();
    }

    step("kubectl get: every column says something");
    let mut copy = String::new();
    for (kind, columns) in KINDS {
        let answer = namespace.kubectl(&["get", kind]).ok();
        let mut lines = answer.stdout.lines();
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(head.join(" "), columns, "{answer}");
        let rows: Vec<&str> = lines.collect();
        assert!(!rows.is_empty(), "{answer}");
        for row in rows {
            // Between columns there are three spaces; a cell that holds nothing is left out, or says <none>.
            let cells: Vec<&str> = row
                .split("   ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect();
            assert_eq!(cells.len(), head.len(), "a column is empty\n{answer}");
            for empty in ["<none>", "<unknown>", "<invalid>"] {
                assert!(!cells.contains(&empty), "a column is empty\n{answer}");
            }
        }
        copy.push_str(&answer.stdout);
        copy.push('\n');
    }
    let all = namespace.kubectl(&["get", "hardstorage", "-o", "name"]).ok();
    // kubectl names objects by their kind here, whatever it was asked for.
    for kind in ["repository", "deployment", "backupschedule", "backup"] {
        assert!(all.stdout.contains(&format!("{kind}.hardstorage.dev/")), "{all}");
    }
    let named: Vec<&str> = all.text().lines().collect();
    namespace.kubectl(&[&["get"], &named[..]].concat()).ok();
    // For the one who writes the documentation.
    if let Some(path) = std::env::var_os("HARDSTORAGE_E2E_SHOWN") {
        fs::write(path, copy).unwrap();
    }

    step("what others call so is still theirs");
    for (word, group) in [
        ("backup", "postgresql.cnpg.io"),
        ("backups", "postgresql.cnpg.io"),
        ("deployment", "apps"),
    ] {
        let told = namespace.kubectl(&["explain", word]).ok();
        assert!(told.stdout.contains(&format!("GROUP:      {group}\n")), "{told}");
    }
    let theirs = namespace.kubectl(&["get", "backup", "-o", "name"]).ok();
    assert_eq!(theirs.text(), "", "there is no backup of CloudNativePG");
}
