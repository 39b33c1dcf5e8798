//! What is done to servers that Patroni looks after.

use std::time::Duration;

use super::dice::Dice;
use super::group::Group;

/// One thing that happens to the leader or to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// PostgreSQL of the leader is killed, all of it.
    LeaderKill,
    /// One of its backends is killed.
    BackendKill,
    /// PostgreSQL of the leader stands still for so long.
    PostgresPause(Duration),
    /// PostgreSQL and Patroni of the leader stand still for so long.
    LeaderPause(Duration),
    /// The same, and its lock ends at once.
    LockEnd(Duration),
    /// Patroni of the leader is killed, and started again after so long; its PostgreSQL lives on.
    PatroniKill(Duration),
    /// Patroni of the leader is killed, PostgreSQL stands still until another one has taken over and for so long, and then
    /// goes on beside it for so long.
    OldPrimary(Duration, Duration),
    /// A planned switchover.
    Switchover,
    /// etcd is killed, and started again after so long.
    EtcdKill(Duration),
}

impl Deed {
    /// One of them. Times are on both sides of what a lock lives.
    pub fn draw(dice: &mut Dice) -> Deed {
        match dice.number(0..=10) {
            0 => Deed::BackendKill,
            1 => Deed::PostgresPause(dice.millis(300..=15000)),
            2 => Deed::PatroniKill(dice.millis(0..=40000)),
            3 => Deed::EtcdKill(dice.millis(0..=25000)),
            4 => Deed::LeaderPause(dice.millis(2000..=35000)),
            5 | 6 => Deed::LockEnd(dice.millis(500..=6000)),
            7 => Deed::LeaderKill,
            8 => Deed::OldPrimary(dice.millis(0..=20000), dice.millis(1000..=20000)),
            _ => Deed::Switchover,
        }
    }

    /// Does it. What follows from it goes on when this returns.
    pub fn apply(self, group: &mut Group) {
        match self {
            Deed::LeaderKill => group.kill_leader(),
            Deed::BackendKill => group.kill_backend(),
            Deed::PostgresPause(time) => group.pause_postgres(time),
            Deed::LeaderPause(time) => group.pause_leader(time, false),
            Deed::LockEnd(time) => group.pause_leader(time, true),
            Deed::PatroniKill(rest) => group.kill_patroni(rest),
            Deed::OldPrimary(still, alone) => group.keep_old_primary(still, alone),
            Deed::Switchover => group.switch_over(),
            Deed::EtcdKill(pause) => group.cut_etcd(pause),
        }
    }
}
