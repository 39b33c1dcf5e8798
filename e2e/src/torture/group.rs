//! Three servers of which Patroni makes one the primary, in its own time and for its own reasons: what is done here is done
//! to PostgreSQL, Patroni or etcd, and what follows from it is Patroni's business.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::chronicle::Chronicle;
use super::dice::Dice;
use super::ledger::State;
use super::nodes::state_of;
use super::streamer::DEPLOYMENT;
use super::writers::{STATE, TABLE};
use crate::answer::until;
use crate::patroni::{Etcd, Member, Recipe};
use crate::postgres::lsn;

const MEMBERS: usize = 3;
/// A leader that was not heard of for so long, in seconds, has lost its lock; Patroni takes no less.
const TTL: u64 = 20;
/// For so long the group may take to be in order again: a lock has to end, a member to be rewound or copied.
const PATIENCE: Duration = Duration::from_mins(4);

/// The three, and etcd.
#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
    etcd: Etcd,
    chronicle: Arc<Chronicle>,
    sockets: Arc<Mutex<Vec<PathBuf>>>,
}

impl Group {
    /// A leader and two replicas, in order; nobody streams yet. In a synchronous world every commit waits for the stream.
    pub fn new(chronicle: &Arc<Chronicle>, dice: &mut Dice, major: u16, segment: u32, synchronous: bool) -> Group {
        // With 0, a leader whose PostgreSQL died gives up its lock at once; else it is started again in its place.
        let start_timeout = dice.pick(&[0, 300]);
        chronicle.note(&format!("Patroni, primary_start_timeout {start_timeout}"));
        let recipe = Recipe {
            major,
            segment,
            dynamic: json!({
                "ttl": TTL,
                "loop_wait": 2,
                "retry_timeout": 8,
                "primary_start_timeout": start_timeout,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "parameters": {
                        "fsync": "off",
                        "shared_buffers": "32MB",
                        "max_wal_size": "256MB",
                        // Patroni takes no less. What the stream lacks is kept by its slot, on every member, or it is lost.
                        "wal_keep_size": "16MB",
                        "wal_receiver_status_interval": "1s",
                        "wal_retrieve_retry_interval": "200ms",
                        "log_line_prefix": "%m [%p] %b ",
                        "timezone": "UTC",
                    },
                },
            }),
        };
        let etcd = Etcd::start();
        let members: Vec<_> = (1..=MEMBERS)
            .map(|number| Member::start(&recipe, number, &etcd))
            .collect();
        let sockets = members.iter().map(Member::sockets).collect();
        let group = Group {
            members,
            etcd,
            chronicle: chronicle.clone(),
            sockets: Arc::new(Mutex::new(sockets)),
        };
        let (leader, _) = group.until_settled(false);
        leader.sql("CREATE ROLE pgbackup REPLICATION LOGIN PASSWORD 'pgbackup'");
        // As the book says it: the slot is Patroni's, so that it is on every member before one of them is promoted.
        let slots = json!({"slots": {slot(): {"type": "physical"}}});
        leader.tell("PATCH", "/config", &slots).unwrap();
        group.until_settled(true);
        if synchronous {
            group.wait_for_the_stream();
        }
        group
    }

    /// From now on commits wait for the stream. Nobody commits before it runs.
    fn wait_for_the_stream(&self) {
        let names = format!("ANY 1 (pg_hardstorage_{DEPLOYMENT})");
        let patch = json!({"postgresql": {"parameters": {"synchronous_standby_names": names}}});
        self.leader().tell("PATCH", "/config", &patch).unwrap();
        until("every member has the synchronous standby", PATIENCE, || {
            let has = |member: &Member| member.value("SHOW synchronous_standby_names").as_deref() == Some(&names);
            self.members.iter().all(has).then_some(())
        });
    }

    /// Makes the table; in a synchronous world the stream has to run.
    pub fn create(&self) {
        self.leader().sql(TABLE);
    }

    /// Where writers look for a primary: there may be none, or two.
    pub fn sockets(&self) -> &Arc<Mutex<Vec<PathBuf>>> {
        &self.sockets
    }

    /// Leads to the one that is the primary.
    pub fn connection(&self) -> String {
        let addresses: Vec<_> = self.members.iter().map(|member| member.address().to_string()).collect();
        format!(
            "postgres://pgbackup:pgbackup@{}/postgres?target_session_attrs=primary",
            addresses.join(",")
        )
    }

    /// Waits until there is one primary, with the others streaming from it, and the stream's slot on all of them. Says where
    /// the primary is then, and on which timeline: a replica that was just copied has no older WAL.
    #[track_caller]
    pub fn settle(&self) -> (u32, u64) {
        self.until_settled(true).1
    }

    #[track_caller]
    fn until_settled(&self, with_slot: bool) -> (&Member, (u32, u64)) {
        let begun = Instant::now();
        loop {
            if let Some(settled) = self.settled(with_slot) {
                return settled;
            }
            let logs = || {
                self.members
                    .iter()
                    .map(|member| format!("--- {}\n{}", member.name(), member.log()))
            };
            assert!(
                begun.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: one leader and {} replicas\n{}",
                MEMBERS - 1,
                logs().collect::<Vec<_>>().join("\n")
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the servers themselves say, because Patroni's view of the others may be that of before.
    fn settled(&self, with_slot: bool) -> Option<(&Member, (u32, u64))> {
        let leader = self.members.iter().find(|member| member.leads())?;
        let place = leader.place()?;
        let follows = |member: &Member| {
            let followed = "SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'";
            member.value("SELECT pg_is_in_recovery()").as_deref() == Some("t")
                && member.value(followed) == Some(place.0.to_string())
        };
        let has_slot = |member: &Member| {
            let slot = format!(
                "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
                slot()
            );
            member.value(&slot).is_some()
        };
        let mut others = self.members.iter().filter(|member| member.name() != leader.name());
        let all = others.all(follows) && (!with_slot || self.members.iter().all(has_slot));
        all.then_some((leader, place))
    }

    #[track_caller]
    fn leader(&self) -> &Member {
        until("there is a leader", PATIENCE, || {
            self.members.iter().find(|member| member.leads())
        })
    }

    /// Kills PostgreSQL of the leader.
    pub fn kill_leader(&self) {
        self.leader().kill_postgres();
    }

    /// Kills one backend of the leader: PostgreSQL then throws out all of them and recovers.
    pub fn kill_backend(&self) {
        self.leader().kill_backend();
    }

    /// Stops PostgreSQL of the leader for a time.
    pub fn pause_postgres(&self, time: Duration) {
        let leader = self.leader();
        leader.signal_postgres(Signal::STOP);
        thread::sleep(time);
        leader.signal_postgres(Signal::CONT);
    }

    /// Stops PostgreSQL and Patroni of the leader for a time. When that is longer than its lock lives, or the lock is ended,
    /// it comes back as an old primary that does not know it yet. This does not wait for that.
    pub fn pause_leader(&self, time: Duration, lock_ends: bool) {
        let leader = self.leader();
        let goes_on = leader.stop_all();
        if lock_ends {
            self.etcd.end_lock();
        }
        later(time, goes_on);
    }

    /// Kills Patroni of the leader and starts it again after a time. When that is longer than its lock lives, another one is
    /// promoted meanwhile, and the old primary goes on beside it with nobody to stop it. This does not wait for that.
    pub fn kill_patroni(&self, rest: Duration) {
        later(rest, self.leader().kill_patroni());
    }

    /// Makes the leader an old primary: its Patroni is killed, and its PostgreSQL stands still until another one is promoted,
    /// and longer. Then it goes on alone. This waits for the promotion only.
    pub fn keep_old_primary(&self, still: Duration, alone: Duration) {
        let leader = self.leader();
        let run = leader.kill_patroni();
        let goes_on = leader.stop_all();
        self.etcd.end_lock();
        let others = || self.members.iter().filter(|member| member.name() != leader.name());
        until("another one leads", PATIENCE, || others().find(|member| member.leads()));
        later(still, goes_on);
        later(still + alone, run);
    }

    /// Lets Patroni hand over to whichever replica it likes.
    pub fn switch_over(&self) {
        let leader = self.leader();
        let answer = leader.tell("POST", "/switchover", &json!({"leader": leader.name()}));
        self.chronicle.note(&format!("{answer:?}"));
    }

    /// Kills etcd and starts it again after a time: a leader that cannot renew its lock steps down.
    pub fn cut_etcd(&mut self, pause: Duration) {
        self.etcd.cut(pause);
    }

    /// All of it is gone in one instant.
    pub fn lose(&mut self) {
        for member in &self.members {
            drop(member.stop_all());
        }
        for member in &mut self.members {
            member.cut();
        }
    }

    /// What the table holds.
    pub fn state(&self) -> State {
        state_of(&self.leader().sql(STATE)[0])
    }
}

fn later(time: Duration, work: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        thread::sleep(time);
        work();
    });
}

fn slot() -> String {
    format!("pg_hardstorage_{DEPLOYMENT}")
}

impl Member {
    fn value(&self, sql: &str) -> Option<String> {
        self.row(sql)?.into_iter().next()?
    }

    /// The end of what is flushed, and its timeline; nothing from a standby.
    fn place(&self) -> Option<(u32, u64)> {
        let row = self.row("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_flush_lsn()")?;
        let timeline = u32::from_str_radix(row[0].as_ref()?, 16).ok()?;
        Some((timeline, lsn(row[1].as_ref()?)))
    }
}
