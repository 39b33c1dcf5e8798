//! What killed writers left beside the objects, in the whole repository: no deployment's, because it has no names.
//!
//! A writer that runs must keep what it is writing.
//!
//! - A backup has a session. As long as any session of the repository is not known to be over, only what is older than
//!   [`PAUSE`] goes, however short the grace is. Sessions are read first, and the time that it took makes the grace
//!   longer: what a process has written that began later is younger.
//! - A stream has none, and a segment of a size above the usual is uploaded while its bytes arrive: on a quiet server
//!   that takes days. Below `wal/` everything therefore stays for [`WAL_PAUSE`]; it is little, a segment for each kill.
//! - What else is written is written at once, and the layer that tries again writes it anew.
//!
//! It is the last of a collection and no part of its result can be undone by it. So a store that refuses (many object
//! stores cannot list uploads, or may not) is told in a note, and what the collection did is told all the same.

use std::time::{Duration, Instant};

use hardstorage_report::Result;
use hardstorage_storage::SweepRequest;
use serde::Serialize;

use super::{Amount, CollectOptions};
use crate::Repository;
use crate::session::{Liveness, list_sessions, look};

/// No writer pauses for so long within one file or one upload and goes on.
const PAUSE: Duration = Duration::from_hours(24);

/// A segment of WAL is filled within this time.
const WAL_PAUSE: Duration = Duration::from_hours(30 * 24);

/// What writers that were killed left, and came back or would.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leftovers {
    /// Unfinished files or uploads.
    #[serde(flatten)]
    pub found: Amount,
    /// Why nothing is known of them, or not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Removes what killed writers left, or tells what there is. To be called when the deployments are collected.
pub async fn leftovers(repository: &Repository, options: &CollectOptions) -> Leftovers {
    match sweep(repository, options).await {
        Ok(found) => Leftovers { found, note: None },
        Err(error) => Leftovers {
            found: Amount::default(),
            note: Some(format!("{error} ({})", error.hint_text())),
        },
    }
}

async fn sweep(repository: &Repository, options: &CollectOptions) -> Result<Amount> {
    repository.descriptor().check_collect()?;
    let begin = Instant::now();
    let older_than = if options.grace < PAUSE && may_write(repository, options).await? {
        PAUSE
    } else {
        options.grace.saturating_add(begin.elapsed())
    };
    let request = SweepRequest {
        older_than,
        patient: vec![("wal/".to_owned(), WAL_PAUSE)],
        apply: options.apply,
    };
    let swept = repository.store().sweep(&request).await?;
    Ok(Amount {
        objects: swept.count,
        bytes: swept.bytes,
    })
}

/// Whether any process may be writing. Only what ended itself or is proven to be dead certainly is not.
async fn may_write(repository: &Repository, options: &CollectOptions) -> Result<bool> {
    for name in repository.deployments().await? {
        let deployment = repository.deployment(&name).await?;
        let now = deployment.store().clock().await?;
        let mut sessions = list_sessions(&deployment).await?.into_iter();
        if sessions.any(|view| {
            let liveness = view.liveness(now, &options.timing, &options.process, look);
            !matches!(liveness, Liveness::Ended | Liveness::Dead)
        }) {
            return Ok(true);
        }
    }
    Ok(false)
}
