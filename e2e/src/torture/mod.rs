//! The ledger test: nothing that was acknowledged is ever lost, whatever happens meanwhile.
//!
//! A round makes a world (two servers, or three that Patroni looks after, a stream, a repository), lets writers commit and
//! note what was acknowledged, does to it in random order what can go wrong, and ends either in peace or with the loss of all
//! servers in one instant. Then the [`judge`] restores and compares:
//!
//! - asynchronous: every commit at or below the last `durable_lsn` that `/status` reported is there;
//! - synchronous (the servers wait for the stream): every commit that was acknowledged at all is there;
//! - nothing of a branch that died is there, nothing that nobody wrote, and no writer's rows have a hole;
//! - restored to a moment, the table is what it was at that moment;
//! - the archive has no gap, the repository no damage, and nobody complained without a reason.
//!
//! The same seed draws the same world and the same faults. When exactly each process meets them is not ours to repeat.

mod backups;
mod chronicle;
mod complaints;
mod deed;
mod dice;
mod fault;
mod group;
mod judge;
mod ledger;
mod nodes;
mod proxy;
mod servers;
mod storage;
mod streamer;
mod tally;
mod verdict;
mod writers;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::backups::Backups;
use self::chronicle::Chronicle;
use self::deed::Deed;
use self::fault::Fault;
use self::group::Group;
use self::judge::{Ending, Judge};
use self::ledger::Ledger;
use self::nodes::Nodes;
use self::servers::Servers;
use self::storage::Storage;
use self::streamer::Streamer;
use self::writers::Writers;
use crate::product::Hardstorage;

pub use self::dice::Dice;
pub use self::proxy::{Proxy, Trouble};
pub use self::servers::Promoter;
pub use self::tally::Tally;

/// How much is done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Half a minute: a few faults and moments, an object store.
    Short,
    /// A few minutes: dozens of faults, twenty moments, any storage.
    Long,
}

/// Everything that is done something to.
#[derive(Debug)]
struct World {
    chronicle: Arc<Chronicle>,
    product: Arc<Hardstorage>,
    ledger: Arc<Ledger>,
    writers: Writers,
    backups: Backups,
    streamer: Streamer,
    servers: Servers,
    major: u16,
    storage: Storage,
    synchronous: bool,
}

/// Runs one round; fails with what is wrong, or tells what was done.
#[track_caller]
pub fn round(seed: u64, major: u16, promoter: Promoter, length: Length) -> Tally {
    let again = match (length, promoter) {
        (Length::Short, _) => format!("SEED={seed} cargo test -p hardstorage-e2e --test engine -- torture"),
        (Length::Long, Promoter::Test) => format!("make torture SEED={seed} MAJOR={major} PROMOTER=test"),
        (Length::Long, Promoter::Patroni) => format!("make torture SEED={seed} MAJOR={major} PROMOTER=patroni"),
    };
    let chronicle = Arc::new(Chronicle::new(&format!("seed {seed}, PostgreSQL {major}"), again));
    let mut dice = Dice::new(seed);
    let mut world = World::new(&chronicle, &mut dice, major, promoter, length);
    let mut tally = Tally::new(seed, major, promoter, world.synchronous);
    for fault in script(&mut dice, &world.storage, promoter, length) {
        thread::sleep(dice.millis(0..=2500));
        chronicle.note(&fault.to_string());
        tally.fault(&fault.kind());
        fault.apply(&mut world);
    }
    thread::sleep(dice.millis(500..=2500));
    let judge = world.end(&mut dice);
    let moments = match (length, promoter) {
        (Length::Short, Promoter::Test) => 3,
        (Length::Short, Promoter::Patroni) => 2,
        (Length::Long, _) => 20,
    };
    judge.judge(&mut dice, moments, &mut tally);
    chronicle.note(&format!("held: {tally}"));
    tally
}

fn script(dice: &mut Dice, storage: &Storage, promoter: Promoter, length: Length) -> Vec<Fault> {
    if length == Length::Long {
        // What is done to Patroni takes longer.
        let count = dice.number(if promoter == Promoter::Test { 15..=40 } else { 10..=25 });
        return (0..count).map(|_| Fault::draw(dice, storage, promoter)).collect();
    }
    if promoter == Promoter::Patroni {
        return vec![
            Fault::Patroni(Deed::OldPrimary(Duration::ZERO, Duration::from_secs(6))),
            Fault::StreamKill,
            Fault::Patroni(Deed::Switchover),
        ];
    }
    let mut script = [
        Fault::StreamKill,
        Fault::PostgresKill,
        Fault::Store(Trouble::Stall, Duration::from_secs(2)),
        Fault::Promotion(dice.coin().then(|| dice.millis(200..=1000))),
        Fault::BackupKill(dice.millis(100..=800)),
    ];
    dice.shuffle(&mut script);
    script.to_vec()
}

impl World {
    /// In good order, with a first backup.
    #[track_caller]
    fn new(chronicle: &Arc<Chronicle>, dice: &mut Dice, major: u16, promoter: Promoter, length: Length) -> World {
        let synchronous = dice.coin();
        let segment = dice.pick(&[1, 16]);
        let storage = if length == Length::Short || dice.number(0..=2) > 0 {
            Storage::objects(dice)
        } else {
            Storage::volume(chronicle)
        };
        let url = storage.url();
        let product = Arc::new(storage.user());
        product.run(&["repo", "init", &url]).ok();
        let servers = match promoter {
            Promoter::Test => Servers::Pair(Box::new(Nodes::new(major, segment, synchronous))),
            Promoter::Patroni => Servers::Group(Group::new(chronicle, dice, major, segment, synchronous)),
        };
        let connection = servers.connection();
        let mut args = vec!["--pg-connection", &connection, "--repo", &url];
        if synchronous {
            args.push("--synchronous");
        } else {
            args.extend(["--flush-interval", "1s"]);
        }
        args.extend([
            "--status-interval",
            "1s",
            "--receive-timeout",
            "10s",
            "--max-reconnect-backoff",
            "2s",
        ]);
        if dice.coin() {
            args.extend(["--run-id", "run-1"]);
        }
        chronicle.note(&format!("synchronous: {synchronous}, segments of {segment} MiB, {url}"));
        let streamer = Streamer::start(&product, chronicle, &args);
        servers.create();
        let mut backups = Backups::new(&product, chronicle, &url);
        backups.take(&connection);
        let ledger = Arc::new(Ledger::default());
        let writers = Writers::start(servers.sockets(), &ledger, dice);
        World {
            chronicle: chronicle.clone(),
            product,
            ledger,
            writers,
            backups,
            streamer,
            servers,
            major,
            storage,
            synchronous,
        }
    }

    /// In peace, or with the loss of everything but the repository.
    #[track_caller]
    fn end(mut self, dice: &mut Dice) -> Judge {
        let lost = dice.coin();
        if !lost || dice.coin() {
            self.chronicle.note("all is well again");
            self.storage.heal();
        }
        let ending = if lost {
            // With the servers or a moment before them: then what was received and not durable yet is lost, too.
            let cut = dice.coin();
            self.chronicle.note(if cut {
                "all but the repository is lost"
            } else {
                "all servers are lost"
            });
            let told = if cut {
                let told = self.streamer.cut();
                self.servers.lose();
                self.storage.heal();
                told
            } else {
                self.servers.lose();
                self.storage.heal();
                self.streamer.stop().1
            };
            self.backups.kill_running();
            self.writers.stop();
            Ending { told, state: None }
        } else {
            self.chronicle.note("the writers stop, and the stream catches up");
            // A backup that has to succeed needs a primary that stays.
            self.servers.oldest();
            self.backups.take(&self.servers.connection());
            self.writers.stop();
            let (timeline, end) = self.servers.end();
            self.streamer.until_durable(timeline, end);
            let state = self.servers.state();
            let (answer, told) = self.streamer.stop();
            let result = answer.ok().result();
            assert_eq!(result["clean_stop"], true, "{result}");
            Ending {
                told,
                state: Some(state),
            }
        };
        Judge {
            chronicle: self.chronicle,
            product: self.product,
            ledger: self.ledger,
            storage: self.storage,
            backups: self.backups,
            synchronous: self.synchronous,
            major: self.major,
            ending,
        }
    }
}
