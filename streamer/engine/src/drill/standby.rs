//! The server of a drill: a hot standby of nobody, which only the checks' own role gets into.
//!
//! A standby cannot write, whatever a session says of itself; a role that is no superuser cannot promote it, start
//! programs on it or write files. Of the origin's configuration it reads what libraries need; it follows and fetches from
//! nowhere. A statement that brings it down costs that statement: it starts again by itself.

use std::time::{Duration, Instant};

use hardstorage_report::{Error, Result, code};
use tokio_util::sync::CancellationToken;

use super::directory::Prepared;
use super::{DrillPlan, ROLE};
use crate::postgres::{
    Asker, Control, Place, Programs, Reply, Server, Session, State, major_of, off_thread, owner_of, private,
};
use crate::recover::silences_event_triggers;
use crate::restore::line;

/// How long it may take until it answers; there is nothing to replay.
const STARTING: Duration = Duration::from_mins(10);
/// How long one of our own questions may take.
const OWN: Duration = Duration::from_mins(10);
/// How long to wait for the end of a session, or of the server, before it goes on or is ended at once.
const ENDING: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Databases to ask of others from.
const HOMES: [&str; 2] = ["postgres", "template1"];
/// The origin's libraries that are loaded at the start.
const PRELOAD: &str = "shared_preload_libraries";

/// What makes it a hot standby that reaches out to nowhere, wherever else something else is said.
const STANDBY: [&str; 8] = [
    "hot_standby=on",
    "restart_after_crash=on",
    "primary_conninfo=",
    "primary_slot_name=",
    "restore_command=",
    "archive_cleanup_command=",
    "recovery_end_command=",
    "superuser_reserved_connections=0",
];

/// What roles and databases of the copy set for their sessions must not end a check, or make it somebody else's.
const CHECK: &str = "-c role=none -c local_preload_libraries= -c statement_timeout=0 -c lock_timeout=0";
/// Our own questions mean the system's catalogue.
const OURS: &str = "-c search_path=pg_catalog";

/// Ends every other session of the role, and counts them.
const OTHERS: &str = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
     WHERE usename = current_user AND pid <> pg_catalog.pg_backend_pid()";

fn interrupted() -> Error {
    Error::new(code::cli::INTERRUPTED, "the drill was interrupted")
}

/// The running server.
pub(super) struct Standby<'a> {
    server: Server,
    place: Place,
    cancel: &'a CancellationToken,
    home: &'static str,
    /// The libraries that it runs with, when there are any.
    pub(super) libraries: Option<String>,
    /// Last, so that the server is gone before it.
    _private: tempfile::TempDir,
}

impl<'a> Standby<'a> {
    /// Starts it without the libraries that the origin preloads, unless they are wanted or it does not start.
    pub(super) async fn start(
        plan: &DrillPlan,
        prepared: &Prepared,
        cancel: &'a CancellationToken,
    ) -> Result<Standby<'a>> {
        let data = plan.data.clone();
        let major = major_of(&data)?;
        let directory = private(owner_of(&data)?)?;
        let place = Place {
            programs: Programs::of_server(plan.pg_bin.as_deref(), &major)?,
            data,
            private: directory.path().to_owned(),
            environment: Vec::new(),
        };
        let control = off_thread({
            let place = place.clone();
            move || Control::read(&place.programs, &place.data)
        });
        let control = control.await?;
        let known = prepared
            .preload
            .get(PRELOAD)
            .filter(|libraries| !libraries.trim().is_empty());
        let first = known.filter(|_| plan.preload).cloned();
        let (server, libraries) = match run(&place, prepared, &control, &major, first.clone(), cancel).await {
            Ok(server) => (server, first),
            Err(error) => match known.filter(|_| first.is_none() && !cancel.is_cancelled()) {
                None => return Err(error),
                Some(known) => {
                    tracing::info!(%error, "it does not start without the libraries of its origin");
                    let server = run(&place, prepared, &control, &major, Some(known.clone()), cancel).await?;
                    (server, Some(known.clone()))
                }
            },
        };
        let mut standby = Standby {
            server,
            place,
            cancel,
            home: HOMES[0],
            libraries,
            _private: directory,
        };
        standby.find_home().await?;
        Ok(standby)
    }

    async fn find_home(&mut self) -> Result<()> {
        let mut words = String::new();
        for home in HOMES {
            self.home = home;
            match self.question(home, "SELECT 1").await? {
                Ok(_) => return Ok(()),
                Err(said) => words = said,
            }
        }
        Err(self
            .server
            .refused(code::engine::RESTORE_TEST, &format!("{ROLE} is not let in: {words}")))
    }

    fn asker(&self, more: &str) -> Asker<'_> {
        Asker {
            place: &self.place,
            cancel: self.cancel,
            options: format!("{CHECK} {more}"),
            interrupted,
        }
    }

    /// One of our own questions in one database; the inner error is the client's words.
    pub(super) async fn ask(&mut self, database: &str, query: &str) -> Result<Result<String, String>> {
        let answer = self.question(database, query).await?;
        if answer.is_err() {
            self.settle().await?;
        }
        Ok(answer)
    }

    async fn question(&self, database: &str, query: &str) -> Result<Result<String, String>> {
        let asker = self.asker(OURS);
        let session = session(database);
        match tokio::time::timeout(OWN, asker.ask(&session, query)).await {
            Ok(answer) => answer,
            Err(_) => Ok(Err(format!("no answer within {} s", OWN.as_secs()))),
        }
    }

    /// The same where no database is meant.
    pub(super) async fn ask_home(&mut self, query: &str) -> Result<String> {
        let answer = self.ask(self.home, query).await?;
        answer.map_err(|words| self.server.refused(code::engine::RESTORE_TEST, &words))
    }

    /// A statement of ours that runs the database's own code, for so long at most.
    pub(super) async fn try_ours(&mut self, database: &str, statement: &str, limit: Duration) -> Result<Reply> {
        self.first(OURS, database, statement, limit).await
    }

    /// Somebody's own statements, for so long at most.
    pub(super) async fn try_theirs(&mut self, database: &str, statements: &str, limit: Duration) -> Result<Reply> {
        self.first("", database, statements, limit).await
    }

    async fn first(&mut self, more: &str, database: &str, statements: &str, limit: Duration) -> Result<Reply> {
        let reply = self.asker(more).first(&session(database), statements, limit).await?;
        if !matches!(reply, Reply::First(_)) {
            self.settle().await?;
        }
        Ok(reply)
    }

    /// Waits until it answers again, and nothing of what failed goes on.
    async fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + ENDING;
        loop {
            let asked = self.question(self.home, OTHERS).await?;
            if let State::Ended(status) = self.server.state()? {
                let what = format!("PostgreSQL ended with {status} during a check");
                return Err(self.server.refused(code::engine::RESTORE_TEST, &what));
            }
            match asked {
                Ok(others) if others == "0" => return Ok(()),
                // What does not let itself be ended goes when the server does.
                Ok(_) if Instant::now() > deadline => return Ok(()),
                Err(words) if Instant::now() > deadline => {
                    return Err(self.server.refused(code::engine::RESTORE_TEST, &words));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Stops it.
    pub(super) async fn stop(self) -> Result<()> {
        self.server.stop_within(ENDING).await
    }
}

fn session(database: &str) -> Session {
    Session {
        user: ROLE.to_owned(),
        database: database.to_owned(),
    }
}

/// Starts a server, with these libraries or without any, and waits until it answers.
async fn run(
    place: &Place,
    prepared: &Prepared,
    control: &Control,
    major: &str,
    libraries: Option<String>,
    cancel: &CancellationToken,
) -> Result<Server> {
    let mut more: Vec<String> = STANDBY.iter().map(|&word| word.to_owned()).collect();
    // WAL replay compares them, and no worker runs: the recovery that made this copy allowed none.
    more.extend(control.limits().iter().map(|(name, value)| format!("{name}={value}")));
    more.push(format!("{PRELOAD}={}", libraries.unwrap_or_default()));
    if silences_event_triggers(major) {
        more.push("event_triggers=off".to_owned());
    }
    let own: String = prepared.preload.iter().map(|(name, value)| line(name, value)).collect();
    let settings = place.settings(&own, ROLE, &more)?;
    let mut server = place.start(&settings)?;
    server.until_ready("the start", STARTING, cancel, interrupted).await?;
    Ok(server)
}
