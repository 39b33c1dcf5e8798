//! The history files of a server's timelines, brought into the archive.

use hardstorage_replication::Connection;
use hardstorage_report::{Event, EventSink, Result, Severity, Timeline, code};
use hardstorage_repository::wal::{HistoryFile, WalArchive};
use serde_json::json;

use super::route::Ancestor;

/// Stores the history of the server's timeline and of every ancestor: a missing file in the middle ends PostgreSQL's
/// search for the newest timeline at the first miss. Other bytes under the same name are an alarm, and an error here.
pub async fn capture_histories(
    connection: &mut Connection,
    archive: &WalArchive,
    current: Timeline,
    sink: &dyn EventSink,
) -> Result<Vec<Ancestor>> {
    if current.0 == 1 {
        return Ok(Vec::new());
    }
    let (_, bytes) = connection.timeline_history(current).await?;
    let history = HistoryFile::parse(current, &bytes)?;
    archive.put_history(current, &bytes).await?;
    for entry in history.entries.iter().filter(|entry| entry.timeline.0 > 1) {
        match connection.timeline_history(entry.timeline).await {
            Ok((_, bytes)) => {
                archive.put_history(entry.timeline, &bytes).await?;
            }
            Err(error) if error.is(code::replication::HISTORY_MISSING) => {
                if archive.history(entry.timeline).await?.is_none() {
                    let body = json!({
                        "missing_timeline": entry.timeline,
                        "message": "the server no longer has the history file of an ancestor, and neither has the archive",
                    });
                    let event = Event::new(Severity::Warning, "wal.timeline.history_not_captured");
                    sink.emit(event.deployment(archive.deployment().name()).body(body));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(history
        .entries
        .iter()
        .map(|entry| Ancestor {
            timeline: entry.timeline,
            switch: entry.switch,
        })
        .collect())
}
