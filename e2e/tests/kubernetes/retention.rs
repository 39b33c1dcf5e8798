//! A schedule every minute with a retention that keeps one: what goes is marked, what is newest stays, WAL that no backup
//! needs expires, and no Job, pod or object piles up.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_e2e::kubernetes::is;

use crate::site::{PATIENCE, SCHEDULE, Site, deployment, repository, step};

/// Four runs, the first after a minute.
const RUNS: Duration = Duration::from_mins(7);

#[test]
fn one_is_kept_of_many() {
    let site = Site::new("e2e-retention", 1);
    let namespace = &site.namespace;
    namespace.apply(&repository(&site.bucket.url("main")));
    let keep = "  retention: {keepLast: 1, keepDaily: 0, keepWeekly: 0, keepMonthly: 0, keepYearly: 0, keepWAL: 1s}\n";
    namespace.apply(&deployment("shop", keep));
    site.until_ready();
    namespace.apply(SCHEDULE);

    step("three backups are marked as deleted");
    namespace.until("three are Tombstoned", RUNS, |namespace| {
        let all = namespace.list("hsbk", "");
        let marked = all.iter().filter(|one| one["status"]["phase"] == "Tombstoned");
        let schedule = namespace.get("hssched/shop");
        let counted = schedule["status"]["tombstoned"].as_i64();
        (marked.count() >= 3 || counted.is_some_and(|count| count >= 3)).then_some(())
    });
    namespace.patch("hssched/shop", r#"{"spec":{"suspend":true}}"#);
    namespace.until("no run is left", PATIENCE, |namespace| {
        let jobs = namespace.list("jobs", "");
        jobs.iter()
            .all(|job| job["status"]["active"].as_i64().unwrap_or_default() == 0)
            .then_some(())
    });
    let object = namespace.get("hssched/shop");
    assert!(is(&object, "RetentionSucceeded", "True"), "{object:#}");
    assert!(is(&object, "LastRunSucceeded", "True"), "{object:#}");

    step("outside sees what the objects say");
    let (_forward, outside) = site.outside();
    let list = outside.run(&["list", &site.name(), "-o", "json"]).ok().result();
    let ids = list["backups"].as_array().unwrap().iter();
    let there: BTreeSet<String> = ids.map(|one| one["backup_id"].as_str().unwrap().to_owned()).collect();
    // The newest may have come after the last retention.
    assert!((1..=2).contains(&there.len()), "{list:#}");
    namespace.until("exactly those are Completed", PATIENCE, |namespace| {
        let all = namespace.list("hsbk", "");
        let completed = all.iter().filter(|one| one["status"]["phase"] == "Completed");
        let ids = completed.filter_map(|one| one["status"]["backupID"].as_str().map(str::to_owned));
        (ids.collect::<BTreeSet<_>>() == there).then_some(())
    });
    outside.run(&["verify", &site.name()]).ok();
    // What is marked can still be undeleted, and has the WAL that makes it consistent; what lies between has gone.
    let audit = outside.run(&["wal", "audit", &site.name()]).ok();
    assert!(audit.stdout.contains("retention let go"), "{audit}");

    step("nothing piles up");
    let jobs = namespace.list("jobs", "hardstorage.dev/role=backup");
    assert!(jobs.len() <= 2, "{} Jobs of backups are left", jobs.len());
}
