//! Writers that want the same name at the same moment: exactly one may be told that it created the object, and the
//! object must be that one's.
//!
//! Servers exist that answer every *second* write correctly and still let two *simultaneous* writers win; only a real race
//! shows it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use tokio::sync::Barrier;

use super::{Outcome, Room, describe};
use crate::{Created, DynStore, Key};

/// What a race showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Race {
    /// Names raced for.
    pub names: usize,
    /// Names with more than one winner.
    pub several_winners: usize,
    /// Names with none.
    pub no_winner: usize,
    /// Names that hold the bytes of one who did not win.
    pub wrong_content: usize,
}

impl Race {
    /// Whether each name had one winner, whose bytes are there.
    pub fn kept(&self) -> bool {
        self.several_winners + self.no_winner + self.wrong_content == 0
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} names {} had several winners, {} none, {} hold a loser's bytes",
            self.names, self.several_winners, self.no_winner, self.wrong_content
        )
    }
}

/// The check of the suite.
pub(super) async fn one_winner(room: &Room) -> Outcome {
    let race = race(room.store.clone(), 12, 6).await.map_err(|e| describe(&e))?;
    if race.kept() { Ok(()) } else { Err(race.to_string()) }
}

/// Lets `writers` tasks race for each of `names` new names: by put_new, and every third name by uploads in parts too.
pub async fn race(store: DynStore, names: usize, writers: usize) -> Result<Race> {
    let folder = format!("race-{:016x}", rand::random::<u64>());
    let mut seen = Race {
        names,
        ..Race::default()
    };
    for number in 0..names {
        let name = format!("{folder}/{number}");
        let key = Key::new(name).map_err(|error| Error::new(code::storage::IO, error.to_string()))?;
        let outcome = one_name(&store, &key, writers.max(2), number % 3 == 2).await;
        // The name goes even when the race broke off.
        let removed = store.delete(&key).await;
        let (winners, holder) = outcome?;
        removed?;
        match winners.as_slice() {
            [] => seen.no_winner += 1,
            [winner] if holder != Some(*winner) => seen.wrong_content += 1,
            [_] => {}
            _ => seen.several_winners += 1,
        }
    }
    Ok(seen)
}

/// The writers who were told that they created it, and the one whose bytes are there.
async fn one_name(store: &DynStore, key: &Key, writers: usize, in_parts: bool) -> Result<(Vec<u8>, Option<u8>)> {
    let start = Arc::new(Barrier::new(writers));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, key, start) = (store.clone(), key.clone(), start.clone());
        let mark = writer as u8;
        tasks.spawn(async move {
            // Large enough for several packets; in parts, for several parts.
            let created = if in_parts && writer % 2 == 0 {
                let mut upload = store.upload_new(&key).await?;
                for size in [8 << 20, 1 << 20] {
                    upload.write(Bytes::from(vec![mark; size])).await?;
                }
                start.wait().await;
                upload.finish().await?
            } else {
                let body = Bytes::from(vec![mark; 100_000]);
                start.wait().await;
                store.put_new(&key, body).await?
            };
            Ok::<_, Error>((mark, created))
        });
    }
    let mut winners = Vec::new();
    let mut failure = None;
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok((mark, Created::Created))) => winners.push(mark),
            Ok(Ok((_, Created::Exists))) => {}
            Ok(Err(error)) => failure = Some(error),
            Err(stopped) => {
                failure = Some(Error::new(code::storage::IO, "a writer of the race stopped").source(stopped));
            }
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let body = store.get(key).await?.unwrap_or_default();
    let first = body.first().copied();
    let pure = first.is_some_and(|first| body.iter().all(|byte| *byte == first));
    Ok((winners, first.filter(|_| pure)))
}
