//! The proof that a store keeps create-only: a real race. The format stands on it (the first data key, the commit of a
//! backup, the next number of a state), and some stores promise it and let several of simultaneous writers win.

use std::sync::Arc;

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{Created, DynStore, Key};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::{Surroundings, layout};

const ROUNDS: usize = 4;
const CONTENDERS: usize = 8;

/// What the race showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOnly {
    /// Of all writers exactly one created, every time, and its bytes stayed.
    Kept,
    /// Not so: what happened.
    Broken(String),
}

/// Runs the race and removes what it wrote.
pub(crate) async fn prove(store: &DynStore, surroundings: &Surroundings) -> Result<CreateOnly> {
    for _ in 0..ROUNDS {
        let key = layout::probe(surroundings.random()?);
        let verdict = race(store, &key).await;
        // A store that forbids deleting can hold a repository all the same; where writing was refused nothing is left.
        if let Err(error) = store.delete(&key).await
            && !matches!(store.head(&key).await, Ok(None))
        {
            tracing::warn!(%key, %error, "the probe object stays behind");
        }
        if let broken @ CreateOnly::Broken(_) = verdict? {
            return Ok(broken);
        }
    }
    Ok(CreateOnly::Kept)
}

async fn race(store: &DynStore, key: &Key) -> Result<CreateOnly> {
    let start = Arc::new(Barrier::new(CONTENDERS));
    let mut contenders = JoinSet::new();
    for number in 0..CONTENDERS {
        let (store, key, start) = (store.clone(), key.clone(), start.clone());
        contenders.spawn(async move {
            let body = Bytes::from(format!("contender {number}"));
            start.wait().await;
            (body.clone(), store.put_new(&key, body).await)
        });
    }
    let mut winners = Vec::new();
    let mut failure = None;
    while let Some(done) = contenders.join_next().await {
        let (body, result) =
            done.map_err(|error| Error::new(code::storage::IO, "a contender of the probe died").source(error))?;
        match result {
            Ok(Created::Created) => winners.push(body),
            Ok(Created::Exists) => {}
            Err(error) => failure = Some(error),
        }
    }
    // All have ended: nobody writes the name after its removal.
    if let Some(error) = failure {
        return Err(error.context("probe whether the store keeps create-only"));
    }
    let found = store.get(key).await?;
    let verdict = match winners.as_slice() {
        [] => format!("none of {CONTENDERS} simultaneous writers created the object"),
        [winner] if found.as_ref() == Some(winner) => {
            return Ok(match store.put_new(key, Bytes::from_static(b"too late")).await? {
                Created::Exists => CreateOnly::Kept,
                Created::Created => CreateOnly::Broken("an existing object was created again".to_owned()),
            });
        }
        [_] => "the one winner's bytes are not those that are stored".to_owned(),
        several => format!(
            "{} of {CONTENDERS} simultaneous writers were told that they created the object",
            several.len()
        ),
    };
    Ok(CreateOnly::Broken(verdict))
}
