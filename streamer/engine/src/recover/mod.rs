//! Recovers a restored copy with the PostgreSQL of this machine and hands it over: promoted, stopped, asking nothing of us.
//!
//! The promotion happens here and not where the copy is used, because until then the copy has its origin's timeline, and
//! whoever takes it over (an operator that clones standbys from it) needs a primary that is one already. The server is
//! kept as quiet as a server can be: what it reads is written here, outside of the data directory, nobody can connect
//! but through a socket in a private directory, and no background worker runs. Whatever is left of this when it
//! fails is removed with the copy.

mod check;
mod configuration;
mod environment;
mod hand_over;
mod orphan;
mod preload;
mod prepare;
mod progress;
mod promote;
mod session;
mod tell;

use std::path::Path;

use hardstorage_report::{Error, Result, code};

use crate::postgres::Programs;

pub(crate) use configuration::silences_event_triggers;
pub(crate) use orphan::{can_be_ended, end_orphan};
pub(crate) use preload::Kept;
pub(crate) use promote::{Job, recover};
pub(crate) use session::COLLATIONS;

/// For whom the copy is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// Anybody: it starts with `pg_ctl`, and archives nowhere until somebody says so.
    Plain,
    /// CloudNativePG: it writes its own settings, and reads one file that it does not make.
    Cnpg,
    /// Patroni: it writes its own settings, and would go by what it knew when the backup was taken.
    Patroni,
    /// A drill: prepared for its checks, a hot standby of nobody.
    Drill,
}

/// What becomes of subscriptions in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscriptions {
    /// They are disabled: the copy would take the slot of the true subscriber.
    Disable,
    /// They stay as they are: the copy takes the origin's place.
    Keep,
}

/// How a copy is recovered.
#[derive(Debug, Clone)]
pub struct Recovery {
    hand_over: HandOver,
    subscriptions: Subscriptions,
    programs: Programs,
}

impl Recovery {
    /// Finds the programs of a backup's major version, so that a machine without them is told before anything is
    /// written. `pg_bin` names their directory.
    pub fn prepare(
        version: &str,
        pg_bin: Option<&Path>,
        hand_over: HandOver,
        subscriptions: Subscriptions,
    ) -> Result<Recovery> {
        let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        Ok(Recovery {
            hand_over,
            subscriptions,
            programs: Programs::of_server(pg_bin, major)?,
        })
    }

    /// For whom.
    pub fn hand_over(&self) -> HandOver {
        self.hand_over
    }
}

fn interrupted() -> Error {
    Error::new(code::cli::INTERRUPTED, "the recovery was interrupted")
}
