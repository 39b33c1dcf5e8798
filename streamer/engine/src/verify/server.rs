//! The server over a scratch copy: it recovers, is asked one thing, and is thrown away.
//!
//! The limits that prepared transactions and locks need are those in `pg_control`; everything else is small.

use std::time::Duration;

use hardstorage_report::{Result, code};
use tokio_util::sync::CancellationToken;

use super::scratch::interrupted;
use crate::postgres::{Asker, Control, EVERYBODY, Place, Server, Session, USUAL_USER, off_thread};

/// How long recovery to the backup's end may take.
const RECOVERY: Duration = Duration::from_hours(1);

/// What a copy that is thrown away needs not do.
const SCRATCH: [&str; 3] = ["shared_preload_libraries=", "shared_buffers=64MB", "fsync=off"];

/// Starts a server, waits until it has recovered, and asks.
pub(super) async fn ask(place: Place, database: &str, query: &str, cancel: &CancellationToken) -> Result<String> {
    let control = off_thread({
        let place = place.clone();
        move || Control::read(&place.programs, &place.data)
    });
    let limits = control.await?.limits();
    let limits = limits.iter().map(|(name, value)| format!("{name}={value}"));
    let more: Vec<String> = SCRATCH.iter().map(|&word| word.to_owned()).chain(limits).collect();
    let settings = place.settings("", EVERYBODY, &more)?;
    let asker = Asker {
        place: &place,
        cancel,
        // The query is somebody's own, and means what it means on the source.
        options: String::new(),
        interrupted,
    };
    let mut session = Session {
        user: USUAL_USER.to_owned(),
        database: database.to_owned(),
    };
    let mut server = place.start(&settings)?;
    until_ready(&mut server, cancel).await?;
    let mut answer = asker.ask(&session, query).await?;
    if answer
        .as_ref()
        .is_err_and(|words| words.contains("role \"postgres\" does not exist"))
    {
        // Whoever made the cluster chose another name; only single-user mode needs none.
        server.stop().await?;
        let user = off_thread({
            let (place, settings) = (place.clone(), settings.clone());
            move || place.superuser(&settings)
        });
        session.user = user.await?;
        server = place.start(&settings)?;
        until_ready(&mut server, cancel).await?;
        answer = asker.ask(&session, query).await?;
    }
    answer.map_err(|words| server.refused(code::engine::RESTORE_TEST, &format!("the query failed: {words}")))
}

async fn until_ready(server: &mut Server, cancel: &CancellationToken) -> Result<()> {
    server.until_ready("recovery", RECOVERY, cancel, interrupted).await
}
