//! What is asked of a copy once it is promoted, by one of its superusers: its subscriptions and its collations, and what
//! others of this module have to say to it.

use hardstorage_report::{CollationChange, DisabledSubscription, Error, Result, code};
use serde::de::DeserializeOwned;

use super::configuration::silences_event_triggers;
use super::interrupted;
use super::promote::Job;
use crate::postgres::{Asker, Place, Server, Session, USUAL_USER, off_thread};

/// Databases that a cluster has; the second may have been dropped.
const DATABASES: [&str; 2] = ["template1", "postgres"];

/// What the copy's own roles and databases set for their sessions must not change what is done: names are looked up in
/// the system's catalogue only, no library of theirs is loaded, nobody else's rights are taken, nothing is read-only, and
/// nothing is given up.
const OPTIONS: &str = "-c search_path=pg_catalog -c role=none -c session_preload_libraries= -c local_preload_libraries= \
     -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0";

/// The same for a version; a database may have triggers of logins that it sets on for itself.
fn options(major: &str) -> String {
    let silent = silences_event_triggers(major);
    format!("{OPTIONS}{}", if silent { " -c event_triggers=off" } else { "" })
}

/// Subscriptions lie in a catalogue that all databases share. `ALTER SUBSCRIPTION` would need a connection to the
/// database of each, and one that allows none today would subscribe as soon as it is opened.
const DISABLE: &str = "WITH off AS (UPDATE pg_catalog.pg_subscription SET subenabled = false WHERE subenabled \
     RETURNING subdbid, subname) \
     SELECT coalesce(json_agg(json_build_object('database', d.datname, 'name', off.subname) \
     ORDER BY d.datname, off.subname), '[]') FROM off JOIN pg_catalog.pg_database d ON d.oid = off.subdbid";

/// Databases whose collation is of another version here.
pub(crate) const COLLATIONS: &str = "SELECT coalesce(json_agg(json_build_object('database', datname, 'recorded', datcollversion, \
     'actual', pg_catalog.pg_database_collation_actual_version(oid)) ORDER BY datname), '[]') \
     FROM pg_catalog.pg_database WHERE datcollversion IS NOT NULL \
     AND datcollversion IS DISTINCT FROM pg_catalog.pg_database_collation_actual_version(oid)";

const IS_SUPERUSER: &str = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";

/// A superuser's way into a running copy.
pub(super) struct Asked<'a> {
    asker: Asker<'a>,
    session: Session,
}

impl<'a> Asked<'a> {
    /// Finds it; for that the server may be stopped and started again.
    pub(super) async fn open(
        job: &'a Job<'_>,
        place: &'a Place,
        settings: &[String],
        major: &str,
        server: Server,
    ) -> Result<(Asked<'a>, Server)> {
        let asker = Asker {
            place,
            cancel: &job.cancel,
            options: options(major),
            interrupted,
        };
        if let Ok(session) = superuser(&asker, USUAL_USER).await? {
            return Ok((Asked { asker, session }, server));
        }
        server.stop().await?;
        let user = off_thread({
            let (place, settings) = (place.clone(), settings.to_vec());
            move || place.superuser(&settings)
        });
        let user = user.await?;
        let mut server = place.start(settings)?;
        job.until_ready(&mut server).await?;
        match superuser(&asker, &user).await? {
            Ok(session) => Ok((Asked { asker, session }, server)),
            Err(words) => Err(server.refused(
                code::engine::RECOVERY,
                &format!("the superuser {user:?} is not let in: {words}"),
            )),
        }
    }

    /// What a query gives as one JSON document.
    pub(super) async fn list<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>> {
        read(&self.run(query).await?)
    }

    /// The same in another database.
    pub(super) async fn list_in<T: DeserializeOwned>(&self, database: &str, query: &str) -> Result<Vec<T>> {
        read(
            &self
                .try_in(database, query)
                .await?
                .map_err(|words| refused(query, &words))?,
        )
    }

    pub(super) async fn run(&self, query: &str) -> Result<String> {
        let answer = self.asker.ask(&self.session, query).await?;
        answer.map_err(|words| refused(query, &words))
    }

    /// Runs statements in another database, in one transaction; the inner error is the client's words.
    pub(super) async fn try_in(&self, database: &str, query: &str) -> Result<Result<String, String>> {
        let session = Session {
            database: database.to_owned(),
            ..self.session.clone()
        };
        self.asker.ask(&session, query).await
    }

    /// Disables every subscription.
    pub(super) async fn disable_subscriptions(&self) -> Result<Vec<DisabledSubscription>> {
        self.list(DISABLE).await
    }

    /// Databases whose collation is of another version here.
    pub(super) async fn collation_changes(&self) -> Result<Vec<CollationChange>> {
        self.list(COLLATIONS).await
    }

    /// Brings everything to disk while it can still be told what for.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        self.run("CHECKPOINT").await.map(drop)
    }
}

fn refused(query: &str, words: &str) -> Error {
    Error::new(code::engine::RECOVERY, format!("the copy refused {query:?}: {words}"))
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<Vec<T>> {
    serde_json::from_str(answer)
        .map_err(|error| Error::new(code::engine::RECOVERY, format!("read {answer:?}")).source(error))
}

/// Whether a role gets in as a superuser, and where; else the client's words.
async fn superuser(asker: &Asker<'_>, user: &str) -> Result<Result<Session, String>> {
    let mut words = String::new();
    for database in DATABASES {
        let session = Session {
            user: user.to_owned(),
            database: database.to_owned(),
        };
        match asker.ask(&session, IS_SUPERUSER).await? {
            Ok(answer) if answer == "t" => return Ok(Ok(session)),
            Ok(_) => "it is no superuser".clone_into(&mut words),
            Err(said) => words = said,
        }
    }
    Ok(Err(words))
}
