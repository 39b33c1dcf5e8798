//! Primaries of which nothing may be archived, although they are of the right cluster.
//!
//! Found out before anything is made on the server or stored of it: a slot on a node that nobody looks after keeps WAL
//! until its disk is full, and a backup of it would look like the newest one.

use hardstorage_replication::Connection;
use hardstorage_report::{Error, Lsn, Result, code};
use hardstorage_repository::wal::WalArchive;

use super::route::refuse_dead_branch;
use crate::source::ServerIdentity;

/// Refuses a primary that has missed a promotion, or that has lost WAL which the archive has. A standby is neither: it
/// follows.
pub(crate) async fn refuse_stale(
    connection: &mut Connection,
    archive: &WalArchive,
    server: &ServerIdentity,
) -> Result<()> {
    if server.standby {
        return Ok(());
    }
    let (timelines, archived) = tokio::try_join!(archive.timelines(), archive.farthest(server.timeline))?;
    refuse_dead_branch(timelines.into_iter().max(), server.timeline)?;
    match archived {
        Some(archived) => refuse_rolled_back(connection, server, archived).await,
        None => Ok(()),
    }
}

/// A primary whose own timeline ends before what the archive has of it has lost WAL that was acknowledged: its storage was
/// set back, or it is a copy. What it writes from now on is another history under the same name.
async fn refuse_rolled_back(connection: &mut Connection, server: &ServerIdentity, archived: Lsn) -> Result<()> {
    // Asked after the archive was looked at: other streams may have stored what was written since.
    let now = connection.identify().await?;
    if now.timeline == server.timeline && archived > now.flush_lsn {
        return Err(Error::new(
            code::repository::SPLIT_BRAIN,
            format!(
                "the archive has timeline {} up to {archived}, the server itself ends at {}",
                server.timeline, now.flush_lsn
            ),
        )
        .hint("the server was set back, or is a copy of the one that was archived: find out which one is alive"));
    }
    Ok(())
}
