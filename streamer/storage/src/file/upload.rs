//! An upload into a file: parts are gathered without copying and written by one task on the blocking pool at a time,
//! so the caller prepares the next bytes while the last ones go to disk.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use tokio::task::JoinHandle;

use super::staged::Staged;
use super::{Root, blocking};
use crate::{Created, Key, Upload};

/// Bytes that are gathered before a write is worth a thread's time.
const GATHER: usize = 1 << 20;
/// Parts that one gathered write may have.
const PARTS: usize = 1000;

/// What a write in flight gives back: the file, unless the name was taken before it began.
type Writing = JoinHandle<Result<Option<Staged>>>;

pub(super) struct FileUpload {
    root: Arc<Root>,
    key: Key,
    gathered: Vec<Bytes>,
    bytes: usize,
    state: State,
}

enum State {
    Fresh,
    Writing(Writing),
    /// The name is taken; the rest of the bytes goes nowhere.
    Taken,
    Failed,
}

impl FileUpload {
    pub(super) fn new(root: Arc<Root>, key: Key) -> FileUpload {
        FileUpload {
            root,
            key,
            gathered: Vec::new(),
            bytes: 0,
            state: State::Fresh,
        }
    }

    /// Waits for the write in flight and gives its file, which is `None` when the name is taken.
    async fn settle(&mut self) -> Result<Option<Staged>> {
        // Any way out but the last leaves the upload failed.
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Fresh => {
                let (root, key) = (self.root.clone(), self.key.clone());
                blocking(move || Staged::create(&root, &key)).await
            }
            State::Writing(writing) => match writing.await {
                Ok(result) => result,
                Err(stopped) => Err(Error::new(code::storage::IO, "file IO ended before its time").source(stopped)),
            },
            State::Taken => Ok(None),
            State::Failed => Err(Error::new(
                code::storage::IO,
                format!("write {}: an earlier part of this upload failed", self.key),
            )),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let staged = self.settle().await?;
        let mut parts = std::mem::take(&mut self.gathered);
        self.bytes = 0;
        self.state = match staged {
            None => State::Taken,
            Some(mut staged) => State::Writing(tokio::task::spawn_blocking(move || {
                staged.write(&mut parts)?;
                Ok(Some(staged))
            })),
        };
        Ok(())
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.bytes += part.len();
        self.gathered.push(part);
        if self.bytes >= GATHER || self.gathered.len() >= PARTS {
            self.flush().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Created> {
        let staged = self.settle().await?;
        let mut parts = std::mem::take(&mut self.gathered);
        blocking(move || {
            let Some(mut staged) = staged else {
                return Ok(Created::Exists);
            };
            staged.write(&mut parts)?;
            staged.publish()
        })
        .await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        if matches!(self.state, State::Writing(_)) {
            let staged = self.settle().await;
            // Dropping the file removes it; a part that failed has done so already.
            return blocking(move || {
                drop(staged);
                Ok(())
            })
            .await;
        }
        Ok(())
    }
}

impl Drop for FileUpload {
    /// Abandoned: the file goes where file IO may happen.
    fn drop(&mut self) {
        if let State::Writing(writing) = std::mem::replace(&mut self.state, State::Failed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Ok(staged) = writing.await {
                    tokio::task::spawn_blocking(move || drop(staged));
                }
            });
        }
    }
}
