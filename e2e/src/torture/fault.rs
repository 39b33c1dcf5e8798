//! What can go wrong, and how it is done.

use std::fmt;
use std::time::Duration;

use super::World;
use super::deed::Deed;
use super::dice::Dice;
use super::proxy::Trouble;
use super::servers::{Promoter, Servers};
use super::storage::Storage;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The stream is killed, and started again.
    StreamKill,
    /// The stream stands still.
    StreamPause(Duration),
    /// PostgreSQL is killed, all of it, and started again.
    PostgresKill,
    /// A backend is killed.
    BackendKill,
    /// PostgreSQL stands still.
    PostgresPause(Duration),
    /// A backup begins, and goes on beside what follows.
    Backup,
    /// A backup is killed after so long.
    BackupKill(Duration),
    /// The object store is killed, and started again after so long.
    StoreKill(Duration),
    /// The network or the store is unwell for so long.
    Store(Trouble, Duration),
    /// The volume is full for so long.
    VolumeFull(Duration),
    /// The primary dies and the standby takes over; before that, it may have written alone for so long.
    Promotion(Option<Duration>),
    /// Something happens to servers that Patroni looks after.
    Patroni(Deed),
}

impl Fault {
    /// One that can happen here.
    pub fn draw(dice: &mut Dice, storage: &Storage, promoter: Promoter) -> Fault {
        match dice.number(0..=10) {
            2 | 3 | 4 | 7 | 8 if promoter == Promoter::Patroni => Fault::Patroni(Deed::draw(dice)),
            0 => Fault::StreamKill,
            1 => Fault::StreamPause(dice.millis(300..=5000)),
            2 => Fault::PostgresKill,
            3 => Fault::BackendKill,
            4 => Fault::PostgresPause(dice.millis(300..=5000)),
            5 => Fault::Backup,
            6 => Fault::BackupKill(dice.millis(50..=2500)),
            7 => Fault::Promotion(dice.coin().then(|| dice.millis(100..=4000))),
            _ => match storage {
                Storage::Objects { .. } if dice.number(0..=5) == 0 => Fault::StoreKill(dice.millis(0..=4000)),
                Storage::Objects { .. } => {
                    let troubles = [
                        Trouble::Stall,
                        Trouble::InternalError,
                        Trouble::SlowDown,
                        Trouble::ErrorIn200,
                        Trouble::CutAnswer,
                        Trouble::CutRequest,
                    ];
                    Fault::Store(dice.pick(&troubles), dice.millis(500..=8000))
                }
                Storage::Volume(volume) if volume.has_a_size() => Fault::VolumeFull(dice.millis(500..=6000)),
                Storage::Volume(_) => Fault::StreamKill,
            },
        }
    }

    /// The word under which it is counted.
    pub fn kind(self) -> String {
        match self {
            Fault::Store(trouble, _) => format!("Store{trouble:?}"),
            Fault::Promotion(Some(_)) => "PromotionAfterSplit".to_owned(),
            Fault::Patroni(deed) => first_word(&deed),
            other => first_word(&other),
        }
    }

    /// Does it. What lasts is over when this returns, but for a store that is unwell and a backup that goes on.
    pub fn apply(self, world: &mut World) {
        match self {
            Fault::StreamKill => world.streamer.kill(),
            Fault::StreamPause(time) => world.streamer.pause(time),
            Fault::PostgresKill => {
                if let Servers::Pair(nodes) = &mut world.servers {
                    nodes.restart_after_cut();
                }
            }
            Fault::BackendKill => {
                if let Servers::Pair(nodes) = &mut world.servers {
                    nodes.kill_backend();
                }
            }
            Fault::PostgresPause(time) => {
                if let Servers::Pair(nodes) = &mut world.servers {
                    nodes.pause(time);
                }
            }
            Fault::Backup => world.backups.begin(&world.servers.connection()),
            Fault::BackupKill(time) => world.backups.kill(&world.servers.connection(), time),
            Fault::Promotion(alone) => {
                until_replaceable(world);
                if let Servers::Pair(nodes) = &mut world.servers {
                    nodes.promote(alone);
                }
            }
            Fault::Patroni(deed) => {
                until_replaceable(world);
                if let Servers::Group(group) = &mut world.servers {
                    deed.apply(group);
                }
            }
            Fault::StoreKill(time) => {
                if let Storage::Objects { store, .. } = &mut world.storage {
                    store.cut(time);
                }
            }
            Fault::Store(trouble, time) => {
                if let Storage::Objects { proxy, .. } = &world.storage {
                    proxy.trouble(trouble, time);
                }
            }
            Fault::VolumeFull(time) => {
                if let Storage::Volume(volume) = &world.storage {
                    volume.fill();
                    std::thread::sleep(time);
                    volume.enlarge();
                }
            }
        }
    }
}

/// Two promotions while the stream is away from the store leave a gap that no stream can close.
fn until_replaceable(world: &World) {
    let (timeline, oldest) = world.servers.oldest();
    world.streamer.until_durable(timeline, oldest);
}

fn first_word(of: &impl fmt::Debug) -> String {
    let all = format!("{of:?}");
    all.split('(').next().unwrap_or_default().to_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
