//! How often a backup and a restore wait for an answer of the store before they can ask the next question: what a far store
//! costs beside the bytes. It does not depend on their size, so small ones show it.

use hardstorage_e2e::{Cluster, Ledger, ObjectStore, Rounds, url_by};

use crate::site::{Site, step};

/// What each may take: what it takes, and a few more for questions that come apart on a machine that is busy, and ask
/// together elsewhere. Whoever comes to the limit has made a question wait for another, or for PostgreSQL, that did not.
const FIRST: usize = 30;
const SECOND: usize = 30;
const RESTORE: usize = 20;

#[track_caller]
fn within(limit: usize, what: &str, asked: &[Vec<String>]) {
    step(&format!("{what}: {} rounds", asked.len()));
    let lines = asked
        .iter()
        .zip(1..)
        .map(|(round, number): (_, usize)| format!("{number:3}  {}\n", round.join("\n     ")));
    let told: String = lines.collect();
    assert!(asked.len() > 5, "{what} went another way:\n{told}");
    assert!(
        asked.len() <= limit,
        "{what} took {} rounds, not {limit}:\n{told}",
        asked.len()
    );
}

#[test]
fn a_far_store_is_waited_for_a_few_times_only() {
    let store = ObjectStore::minio();
    store.bucket("backups");
    let site = Site::on(&store.url("backups"), &store.credentials());
    let network = Rounds::before(store.socket());
    let far = url_by(&network.endpoint(), "backups");
    let source = Cluster::builder(18).start();
    Ledger::create(&source);
    Ledger::add(&source, "before", 100);
    let connection = source.connection();
    let backup = ["backup", "db1", "--pg-connection", &connection, "--repo", &far];

    step("the first backup, which makes the deployment");
    site.product.run(&backup).ok();
    within(FIRST, "the first backup", &network.taken());

    step("one that is compared with it");
    let wanted = Ledger::add(&source, "between", 100);
    site.product.run(&backup).ok();
    within(SECOND, "the second backup", &network.taken());

    step("a restore");
    let target = site.place("restored");
    let restore = [
        "restore",
        "db1",
        "latest",
        "--target",
        target.to_str().unwrap(),
        "--repo",
        &far,
    ];
    site.product.run(&restore).ok();
    within(RESTORE, "the restore", &network.taken());
    // It fetches its WAL from there.
    let server = Cluster::builder(18).environments(store.credentials());
    let mut restored = server.over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
}
