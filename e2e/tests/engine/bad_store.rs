//! An object store that is unwell: errors, errors that look like success, answers that break off, answers that come late.
//! What can be asked again is asked again; what cannot be done is told, and nothing is half done.

use std::thread;
use std::time::{Duration, Instant};

use hardstorage_e2e::torture::{Dice, Proxy, Trouble};
use hardstorage_e2e::{Answer, Cluster, Ledger, ObjectStore};

use crate::site::{Site, step};
use crate::verdict::{Cases, all_refused};

const BUCKET: &str = "backup/db";
/// Longer than any of these tests.
const LONG: Duration = Duration::from_mins(10);

/// A repository with a backup behind a store that can be made unwell.
struct Unwell {
    site: Site,
    source: Cluster,
    proxy: Proxy,
    wanted: Ledger,
    segment: String,
    store: ObjectStore,
}

impl Unwell {
    fn new() -> Unwell {
        let store = ObjectStore::minio();
        store.bucket("backup");
        let proxy = Proxy::before(store.socket(), Dice::new(1));
        let mut site = Site::new();
        for (name, value) in store.credentials() {
            site.product.set(name, value);
        }
        site.repo = store.url(BUCKET).replace(&store.endpoint(), &proxy.endpoint());
        site.product.run(&["repo", "init", &site.repo]).ok();
        let source = Cluster::builder(18).start();
        Ledger::create(&source);
        let wanted = Ledger::add(&source, "rows", 100);
        let start = site.backup(&source)["start_lsn"].as_str().unwrap().to_owned();
        let segment = source.value(&format!("SELECT pg_walfile_name('{start}')"));
        Unwell {
            site,
            source,
            proxy,
            wanted,
            segment,
            store,
        }
    }

    /// The same repository, by another way.
    fn by(&self, proxy: &Proxy) -> String {
        self.site.repo.replace(&self.proxy.endpoint(), &proxy.endpoint())
    }

    /// What each command says that is run now, all side by side.
    fn everything(&self, name: &str, repo: &str) -> Vec<(&'static str, Answer)> {
        let connection = self.source.connection();
        let (target, fetched) = (self.site.place(name), self.site.place(&format!("{name}-segment")));
        let (target, fetched) = (target.to_str().unwrap(), fetched.to_str().unwrap());
        let commands: [(&str, &[&str]); 7] = [
            ("backup", &["backup", "db1", "--pg-connection", &connection]),
            (
                "wal stream",
                &["wal", "stream", "db2", "--pg-connection", &connection, "--no-reconnect"],
            ),
            ("restore", &["restore", "db1", "--target", target]),
            ("wal fetch", &["wal", "fetch", "db1", &self.segment, fetched]),
            ("repo gc", &["repo", "gc", "--apply"]),
            ("list", &["list", "db1"]),
            ("verify", &["verify", "db1"]),
        ];
        let with_stream = name.starts_with("outage");
        thread::scope(|scope| {
            let commands = commands
                .into_iter()
                .filter(|(what, _)| with_stream || *what != "wal stream");
            let started: Vec<_> = commands
                .map(|(what, words)| {
                    (
                        what,
                        scope.spawn(move || self.site.product.run(&[words, &["--repo", repo]].concat())),
                    )
                })
                .collect();
            started
                .into_iter()
                .map(|(what, run)| (what, run.join().unwrap()))
                .collect()
        })
    }

    /// Nothing was lost: what was stored before is whole.
    fn prove(&self, name: &str) {
        self.proxy.heal();
        self.site.run(&["verify", "db1"]).ok();
        self.site.run(&["repo", "check"]).ok();
        let (_, target) = self.site.restore_files(name, &[]);
        let server = Cluster::builder(18).environment("AWS_EC2_METADATA_DISABLED", "true");
        let mut restored = server.environments(self.store.credentials()).over(&target).start();
        restored.until_promoted();
        assert_eq!(Ledger::read(&restored), self.wanted);
    }
}

#[test]
fn that_answers_with_errors_only() {
    let unwell = Unwell::new();
    // Side by side: most of the time is patience.
    let answers = thread::scope(|scope| {
        let ways = [(1, Trouble::InternalError), (2, Trouble::SlowDown)].map(|(seed, trouble)| {
            let proxy = Proxy::before(unwell.store.socket(), Dice::new(seed));
            proxy.outage(trouble, LONG);
            let (name, repo) = (format!("outage-{trouble:?}"), unwell.by(&proxy));
            let unwell = &unwell;
            scope.spawn(move || (name.clone(), unwell.everything(&name, &repo)))
        });
        ways.map(|way| way.join().unwrap())
    });
    let mut cases = Cases::new();
    for (name, answers) in answers {
        for (what, answer) in answers {
            let exit = if what == "wal fetch" { 126 } else { 8 };
            cases.push((format!("{name}: {what}"), answer, exit, "unreachable.store"));
        }
        for left in [name.clone(), format!("{name}-segment")] {
            assert!(!unwell.site.place(&left).exists(), "{left} was left behind");
        }
    }
    all_refused(&cases);
    unwell.prove("healed");
}

#[test]
fn that_is_unwell_for_a_part_of_the_requests() {
    let unwell = Unwell::new();
    for trouble in [
        Trouble::InternalError,
        Trouble::SlowDown,
        Trouble::ErrorIn200,
        Trouble::CutAnswer,
        Trouble::CutRequest,
    ] {
        let before = unwell.proxy.met();
        let begun = Instant::now();
        // As long as a deployment of the store takes: a command that asks again outlives it.
        unwell.proxy.trouble(trouble, Duration::from_secs(2));
        for (what, answer) in unwell.everything(&format!("{trouble:?}"), &unwell.site.repo) {
            assert_eq!(answer.code, Some(0), "{trouble:?}: {what}\n{answer}");
        }
        assert!(unwell.proxy.met() > before, "{trouble:?}: no request met it");
        step(&format!("{:?} took {:?}", trouble, begun.elapsed()));
        unwell.proxy.heal();
    }
    unwell.prove("healed");
}

/// A store that answers after 30 seconds: no one gives up on it, and no one takes it for a success.
#[test]
fn that_answers_late() {
    let unwell = Unwell::new();
    unwell.proxy.trouble(Trouble::Stall, Duration::from_secs(30));
    for (what, answer) in unwell.everything("late", &unwell.site.repo) {
        assert_eq!(answer.code, Some(0), "{what}\n{answer}");
    }
    unwell.prove("healed");
}
