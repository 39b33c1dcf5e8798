//! A repository: whether it answers, whether the key at hand opens it, and whether it has room.

use hardstorage_report::{ByteSize, Error, Result, code};
use hardstorage_repository::{Mode, Probe, Repository};
use serde::Serialize;

use super::issue::Issue;
use crate::app::App;

/// Less than this part of a file system free is too little, in percent.
const ROOM: u64 = 10;

/// What there is at a URL.
#[derive(Debug, Serialize)]
pub(super) struct RepositoryLook {
    pub(super) url: String,
    pub(super) reachable: bool,
    pub(super) id: Option<String>,
    pub(super) encrypted: Option<bool>,
    /// Whether the key at hand is the repository's.
    pub(super) key_fits: Option<bool>,
    /// Of a repository in a directory.
    pub(super) free_bytes: Option<u64>,
}

/// Looks at one; opened, when that can be. `own_key` is the fingerprint of the key at hand.
pub(super) async fn look(
    app: &App,
    url: &str,
    own_key: Option<&str>,
    issues: &mut Vec<Issue>,
) -> (RepositoryLook, Option<Repository>) {
    let mut found = RepositoryLook {
        url: url.to_owned(),
        reachable: false,
        id: None,
        encrypted: None,
        key_fits: None,
        free_bytes: None,
    };
    let opened = match ask(app, &mut found, own_key, issues).await {
        Ok(true) => app.repository(url, Mode::Read).await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let repository = opened.unwrap_or_else(|error| {
        issues.push(Issue::of(&error, url));
        None
    });
    room(&mut found, issues);
    (found, repository)
}

/// Asks without a key; whether there is something to open.
async fn ask(app: &App, found: &mut RepositoryLook, own_key: Option<&str>, issues: &mut Vec<Issue>) -> Result<bool> {
    let store = app.store(&found.url, false, true).await?;
    let probe = Repository::probe(&store).await?;
    found.reachable = true;
    let url = found.url.clone();
    match probe {
        Probe::Present(facts) => {
            found.id = Some(hex::encode(facts.descriptor.repository_id));
            found.encrypted = Some(facts.kek_fingerprint.is_some());
            found.key_fits = facts.kek_fingerprint.map(|theirs| own_key == Some(theirs.as_str()));
            // With another key or none, opening tells which one is wanted.
            Ok(true)
        }
        Probe::Absent => {
            let error = Error::new(code::repository::MISSING, "there is no repository");
            issues.push(Issue::of(&error, &url));
            Ok(false)
        }
        Probe::Foreign { looks_like_ours, .. } => {
            let error = if looks_like_ours {
                Error::new(code::repository::DESCRIPTOR_MISSING, "its descriptor is gone")
            } else {
                Error::new(code::repository::NOT_EMPTY, "other things lie there, and no repository")
            };
            issues.push(Issue::of(&error, &url));
            Ok(false)
        }
    }
}

/// Room on the file system of a directory; an object store has as much as is paid for.
fn room(found: &mut RepositoryLook, issues: &mut Vec<Issue>) {
    let Some(path) = found.url.strip_prefix("file://") else {
        return;
    };
    let Ok(system) = rustix::fs::statvfs(path) else {
        // It cannot be opened either, which was told.
        return;
    };
    // As df counts: blocks that are kept for root are neither used nor free.
    let free = system.f_bavail * system.f_frsize;
    let all = free + (system.f_blocks - system.f_bfree) * system.f_frsize;
    found.free_bytes = Some(free);
    if is_scarce(free, all) {
        issues.push(Issue::warning(
            "space.low",
            &found.url,
            format!("{} of {} are free", ByteSize(free), ByteSize(all)),
            "make room, keep fewer backups (pg_hardstorage rotate), or move the repository to a larger file system",
        ));
    }
}

fn is_scarce(free: u64, all: u64) -> bool {
    u128::from(free) * 100 < u128::from(all) * u128::from(ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told() {
        assert!(is_scarce(9, 100) && !is_scarce(10, 100));
        assert!(!is_scarce(u64::MAX, u64::MAX));
    }
}
