//! The slot that Patroni is told of by the stream: it is on every member, stays while the stream is away, and the one that is
//! promoted has the WAL. And a Patroni that cannot be told keeps nobody from streaming.

use std::fs;
use std::time::Duration;

use hardstorage_e2e::{Cluster, Etcd, Ledger, Member, Recipe, get, until};
use serde_json::{Value, json};

use crate::site::{Site, lsn, step};

const OURS: &str = "pg_hardstorage_db1";
/// A lock has to end, a member to be copied.
const LONG: Duration = Duration::from_mins(3);

/// Three members; the first of them that leads says what counts.
struct Three {
    members: Vec<Member>,
    _etcd: Etcd,
}

impl Three {
    fn start() -> Three {
        let recipe = Recipe {
            major: 18,
            segment: 1,
            dynamic: json!({
                "ttl": 20,
                "loop_wait": 2,
                "retry_timeout": 8,
                "postgresql": {"parameters": {"fsync": "off", "wal_keep_size": "16MB", "max_wal_size": "64MB", "min_wal_size": "16MB"}},
            }),
        };
        let etcd = Etcd::start();
        let members = (1..=3).map(|number| Member::start(&recipe, number, &etcd)).collect();
        let three = Three { members, _etcd: etcd };
        three.until_whole();
        three
    }

    /// Waits until two follow the one that leads; that one.
    #[track_caller]
    fn until_whole(&self) -> &Member {
        let follow =
            "SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE 'member%' AND state = 'streaming'";
        until("one leads and two follow", LONG, || {
            let leader = self.members.iter().find(|member| member.leads())?;
            (value(leader, follow)? == "2").then_some(leader)
        })
    }

    fn urls(&self) -> String {
        let urls: Vec<_> = self
            .members
            .iter()
            .map(|member| format!("http://{}", member.rest()))
            .collect();
        urls.join(",")
    }

    fn connection(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(|member| member.address().to_string()).collect();
        format!(
            "postgres://pgbackup:pgbackup@{}/postgres?target_session_attrs=primary",
            hosts.join(",")
        )
    }

    fn config(&self) -> Value {
        let (status, text) = get(self.members[0].rest(), "/config").unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The same once it has an entry for the slot: a member tells what it saw in its last loop.
    #[track_caller]
    fn config_with(&self, slot: &str) -> Value {
        until("Patroni tells of the slot", LONG, || {
            Some(self.config()).filter(|config| config["slots"][slot].is_object())
        })
    }

    /// Waits until each Patroni has gone through its loop so often.
    #[track_caller]
    fn until_looked(&self, times: usize) {
        for member in &self.members {
            let mut seen = Vec::new();
            until("Patroni has looked after its server", LONG, || {
                let (_, text) = get(member.rest(), "/patroni").ok()?;
                let now: Value = serde_json::from_str(&text).ok()?;
                let now = now["dcs_last_seen"].as_i64()?;
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
                (seen.len() > times).then_some(())
            });
        }
    }

    /// Where the slot begins, on each member that has it.
    fn slots(&self, name: &str) -> Vec<u64> {
        let sql = format!("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{name}'");
        let starts = self.members.iter().filter_map(|member| value(member, &sql));
        starts.map(|at| lsn(&at)).collect()
    }
}

fn value(member: &Member, sql: &str) -> Option<String> {
    member.row(sql)?.into_iter().next()?
}

#[test]
fn the_slot_that_patroni_was_told_of_outlives_a_switchover() {
    let site = Site::new();
    let three = Three::start();
    let (urls, connection) = (three.urls(), three.connection());
    let leader = three.until_whole();
    leader.sql("CREATE ROLE pgbackup REPLICATION LOGIN PASSWORD 'pgbackup'");
    leader.sql("CREATE TABLE ledger (note text)");

    step("something else has the name: nothing begins, and nothing is changed");
    let elsewhere = json!({"slots": {OURS: {"type": "physical", "cluster_type": "standby"}}});
    leader.tell("PATCH", "/config", &elsewhere).unwrap();
    let before = three.config_with(OURS);
    let with_patroni = ["--patroni-url", &urls];
    let args = ["wal", "stream", "db1", "--pg-connection", &connection];
    let refused = site.run(&[&args[..], &with_patroni].concat()).exits(7);
    assert!(refused.stderr.contains("ERROR conflict.patroni_slot: "), "{refused}");
    assert_eq!(three.config(), before);
    leader
        .tell("PATCH", "/config", &json!({"slots": {OURS: null}}))
        .unwrap();
    until("Patroni has dropped it", LONG, || {
        three.slots(OURS).is_empty().then_some(())
    });

    step("the stream names its slot, and that is all that it changes");
    three.until_looked(2);
    leader.sql("SELECT pg_create_physical_replication_slot('stranger', true)");
    let mut before = three.config();
    let mut stream = site.stream("first", &connection, &with_patroni);
    let status = stream.until("Patroni keeps the slot", |status| status["patroni"]["kept"] == true);
    assert_eq!(status["patroni"], json!({"kept": true}));
    before["slots"][OURS] = json!({"type": "physical"});
    assert_eq!(three.config_with(OURS), before);
    site.ask(&["backup", "db1", "--pg-connection", &connection]);
    until("the slot is on every member", LONG, || {
        (three.slots(OURS).len() == 3).then_some(())
    });
    let told = stream.events_named("wal.patroni.slot_known");
    assert!(told.len() == 1 && told[0]["body"]["added"] == true, "{told:?}");
    stream.stop();

    step("away, the slot stays; one that Patroni does not know goes");
    until("the stranger is gone", LONG, || {
        three.slots("stranger").is_empty().then_some(())
    });
    three.until_looked(2);
    assert_eq!(three.slots(OURS).len(), 3);

    step("what is written meanwhile is kept by the one that is promoted");
    for chapter in 0..40 {
        leader.sql(&format!("INSERT INTO ledger VALUES ('{chapter}')"));
        leader.sql("SELECT pg_switch_wal()");
    }
    leader.sql("CHECKPOINT");
    let old = leader.name().to_owned();
    let leader = until("another one leads", LONG, || {
        let mut others = three.members.iter().filter(|member| member.name() != old);
        let leads = others.find(|member| member.leads());
        if leads.is_none() {
            // Refused while the replicas are behind, and asked again then.
            leader.tell("POST", "/switchover", &json!({"leader": old})).ok();
        }
        leads
    });
    three.until_whole();
    leader.sql("INSERT INTO ledger VALUES ('after'), ('it')");
    leader.sql("CHECKPOINT");
    let sql = format!("SELECT slot_type FROM pg_replication_slots WHERE slot_name = '{OURS}'");
    assert_eq!(value(leader, &sql).as_deref(), Some("physical"));
    assert_eq!(value(leader, "SELECT count(*) FROM ledger").as_deref(), Some("42"));
    let end = lsn(&value(leader, "SELECT pg_current_wal_flush_lsn()").unwrap());

    let mut stream = site.stream("second", &connection, &with_patroni);
    let status = stream.until_within("all of it is durable", LONG, |status| {
        status["timeline"] == 2 && status["durable_lsn"].as_str().is_some_and(|at| lsn(at) >= end)
    });
    assert_eq!(
        (&status["gaps"], &status["slot"]),
        (&json!(0), &json!(OURS)),
        "{status}"
    );
    assert_eq!(status["patroni"], json!({"kept": true}));
    let made = stream.events_named("wal.slot.created");
    assert!(made.is_empty(), "{made:?}");

    step("a stream that has begun goes on, whatever Patroni has under the slot's name later");
    leader.tell("PATCH", "/config", &elsewhere).unwrap();
    leader.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{OURS}'"
    ));
    let status = stream.until("it goes on", |status| {
        status["patroni"]["kept"] == false && status["phase"] == "streaming"
    });
    assert_eq!(status["patroni"]["error"]["code"], "conflict.patroni_slot", "{status}");
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    let (_, target) = site.restore_files("restored", &["--to-latest"]);
    let file = |name: &str| target.join(name).to_str().unwrap().to_owned();
    // What Patroni ran looks for these where they were.
    let mut restored = Cluster::builder(18)
        .over(&target)
        .set("hba_file", &file("pg_hba.conf"))
        .set("ident_file", &file("pg_ident.conf"))
        .start();
    restored.until_promoted();
    assert_eq!(restored.value("SELECT count(*) FROM ledger"), "42");
}

#[test]
fn a_patroni_that_cannot_be_told_keeps_nobody_from_streaming() {
    let site = Site::new();
    let source = Cluster::builder(18).start();
    let connection = source.connection();
    let nobody = "http://127.0.0.1:1";
    let mut stream = site.stream("stream", &connection, &["--patroni-url", nobody]);
    Ledger::create(&source);
    Ledger::add(&source, "goes on", 10);
    stream.until_durable(&source);
    let status = stream.status().unwrap();
    assert_eq!(status["patroni"]["kept"], false, "{status}");
    assert_eq!(status["patroni"]["error"]["code"], "unreachable.patroni", "{status}");
    assert_eq!(status["slot_health"], "active", "{status}");
    let told = stream.events_named("wal.patroni.slot_unknown");
    let [warning] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(warning["severity"], "warning", "{warning}");
    assert_eq!(warning["body"]["code"], "unreachable.patroni", "{warning}");
    assert!(
        warning["body"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{warning}"
    );

    step("doctor says so, too, where the configuration names Patroni");
    let config = format!("deployments: {{db1: {{patroni: {{urls: ['{nobody}']}}}}}}");
    let file = site.product.config().join("pg_hardstorage.yaml");
    fs::write(&file, config).unwrap();
    let found = site.ask(&["doctor", "db1", "--pg-connection", &connection]);
    let issues = found["issues"].as_array().unwrap();
    let issue = issues.iter().find(|issue| issue["code"] == "unreachable.patroni");
    let issue = issue.unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(
        (&issue["severity"], &issue["subject"]),
        (&json!("warning"), &json!("db1")),
        "{issue}"
    );
    stream.stop();
    fs::remove_file(file).unwrap();

    step("what makes no sense is refused before anything else");
    let args = ["wal", "stream", "db1", "--pg-connection", &connection];
    for wrong in [
        &["--patroni-url", "http://u:geheim@127.0.0.1:8008"][..],
        &["--patroni-url", "127.0.0.1:8008"],
        &["--patroni-url", nobody, "--patroni-user", "u"],
        &["--patroni-user", "u", "--patroni-password-file", "/p"],
        &["--patroni-url", nobody, "--no-slot"],
    ] {
        let refused = site.run(&[&args[..], wrong].concat()).exits(2);
        assert!(refused.stderr.contains("ERROR usage.invalid: "), "{refused}");
        assert!(!refused.stderr.contains("geheim"), "{refused}");
    }
}
