//! An upload into S3: parts of at least 8 MiB, a few in flight, visible only by a create-only completion.
//!
//! Parts cannot be repeated from above, so they are tried again here with the store's own policy. A lost answer to the
//! completion is settled by a mark: every upload carries a random word as metadata of its object, and the object that is
//! then found under the name is ours when it carries ours. What is smaller than one part is a plain PUT.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Result, Retry, code};
use tokio::task::JoinSet;

use super::Bucket;
use super::failure::{failed, is_conflict, is_missing_upload, is_precondition, within};
use crate::{Created, Key, Upload};

pub(super) const PART: usize = 8 << 20;
/// Every so many parts, parts double: S3 allows 10,000 of them, and an object of 5 TiB.
const DOUBLE_AFTER: usize = 1000;
const IN_FLIGHT: usize = 3;
/// The metadata that carries the mark.
pub(super) const MARK: &str = "hardstorage-upload";

pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    key: Key,
    mark: String,
    /// Known after the first part.
    id: Option<String>,
    gathered: BytesMut,
    /// A body that needed no copy waits here while nothing is gathered.
    whole: Bytes,
    cut: usize,
    parts: Vec<CompletedPart>,
    in_flight: JoinSet<Result<(CompletedPart, Option<Bytes>)>>,
}

impl S3Upload {
    pub(super) fn new(bucket: Arc<Bucket>, key: Key) -> S3Upload {
        S3Upload {
            bucket,
            key,
            mark: format!("{:032x}", rand::random::<u128>()),
            id: None,
            gathered: BytesMut::new(),
            whole: Bytes::new(),
            cut: 0,
            parts: Vec::new(),
            in_flight: JoinSet::new(),
        }
    }

    fn part_size(&self) -> usize {
        PART << (self.cut / DOUBLE_AFTER).min(9)
    }

    async fn begin(&mut self) -> Result<String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = self.bucket.begin_upload(&self.key, &self.mark).await?;
        Ok(self.id.insert(id).clone())
    }

    /// Sends a part in the background; waits while too many are under way. A gathered one's buffer is used again, a
    /// piece of the caller's body would hold on to all of it.
    async fn send(&mut self, body: Bytes, gathered: bool) -> Result<()> {
        let id = self.begin().await?;
        while self.in_flight.len() >= IN_FLIGHT {
            self.collect().await?;
        }
        self.cut += 1;
        let number = i32::try_from(self.cut)
            .ok()
            .filter(|number| *number <= 10_000)
            .ok_or_else(|| Error::new(code::storage::IO, format!("upload {}: too many parts", self.key)))?;
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        self.in_flight.spawn(async move {
            let part = bucket.send_part(&key, &id, number, &body).await?;
            Ok((part, gathered.then_some(body)))
        });
        Ok(())
    }

    /// Takes the next part that is done.
    async fn collect(&mut self) -> Result<()> {
        match self.in_flight.join_next().await {
            None => Ok(()),
            Some(Ok(sent)) => {
                let (part, body) = sent?;
                self.parts.push(part);
                if let Some(body) = body {
                    self.bucket.keep(body);
                }
                Ok(())
            }
            Some(Err(stopped)) => {
                Err(Error::new(code::storage::IO, format!("upload {}: a part was not sent", self.key)).source(stopped))
            }
        }
    }

    /// What was given and not yet sent.
    fn rest(&mut self) -> Bytes {
        if self.gathered.is_empty() {
            std::mem::take(&mut self.whole)
        } else {
            std::mem::take(&mut self.gathered).freeze()
        }
    }

    async fn complete(&mut self, id: &str) -> Result<Created> {
        self.parts.sort_unstable_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(std::mem::take(&mut self.parts)))
            .build();
        let doing = format!("complete the upload of {}", self.key);
        let mut tries = self.bucket.policy.begin();
        let mut answer_lost = false;
        loop {
            let request = self
                .bucket
                .client
                .complete_multipart_upload()
                .bucket(&self.bucket.name)
                .key(self.bucket.path(&self.key))
                .upload_id(id)
                .if_none_match("*")
                .multipart_upload(parts.clone())
                .send();
            let error = match within(0, request).await {
                // The store keeps the line open with 200 before it knows; only an ETag says that it did its work.
                Ok(Ok(answer)) if answer.e_tag().is_some() => return Ok(Created::Created),
                Ok(Ok(_)) => Error::new(code::storage::IO, format!("{doing}: an empty answer")).retry(Retry::Now),
                Ok(Err(error)) if is_precondition(&error) => {
                    return if answer_lost {
                        self.whose().await
                    } else {
                        Ok(Created::Exists)
                    };
                }
                Ok(Err(error)) if is_missing_upload(&error) && answer_lost => return self.whose().await,
                Ok(Err(error)) if is_conflict(&error) => Error::new(
                    code::storage::IO,
                    format!("{doing}: another write of this name is under way"),
                )
                .retry(Retry::Now),
                Ok(Err(error)) => failed(error, &doing),
                Err(timeout) => timeout.context(&doing),
            };
            answer_lost = true;
            tries.again(error).await?;
        }
    }

    /// Whose object has the name, after an answer was lost.
    async fn whose(&self) -> Result<Created> {
        let mut tries = self.bucket.policy.begin();
        loop {
            match self.bucket.head(&self.key).await {
                Ok(Some(head)) => {
                    let mark = head.metadata().and_then(|metadata| metadata.get(MARK));
                    return Ok(if mark == Some(&self.mark) {
                        Created::Created
                    } else {
                        Created::Exists
                    });
                }
                Ok(None) => {
                    let message = format!("the upload of {} is gone and so is the object", self.key);
                    return Err(Error::new(code::storage::IO, message).retry(Retry::Now));
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, mut part: Bytes) -> Result<()> {
        loop {
            let size = self.part_size();
            if self.gathered.is_empty() && self.whole.is_empty() {
                // Large bodies are cut without a copy.
                while part.len() > self.part_size() {
                    let body = part.split_to(self.part_size());
                    self.send(body, false).await?;
                }
                self.whole = part;
                return Ok(());
            }
            if self.gathered.is_empty() {
                self.gathered = self.bucket.spare();
                self.gathered.reserve(size);
                self.gathered.extend_from_slice(&std::mem::take(&mut self.whole));
            }
            let room = size.saturating_sub(self.gathered.len());
            self.gathered.extend_from_slice(&part.split_to(room.min(part.len())));
            if self.gathered.len() >= size {
                let body = std::mem::take(&mut self.gathered).freeze();
                self.send(body, true).await?;
            }
            if part.is_empty() {
                return Ok(());
            }
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<Created> {
        let rest = self.rest();
        if self.id.is_none() {
            return self.finish_small(rest).await;
        }
        if !rest.is_empty() {
            self.send(rest, false).await?;
        }
        while !self.in_flight.is_empty() {
            self.collect().await?;
        }
        let Some(id) = self.id.clone() else {
            return Err(Error::new(
                code::storage::IO,
                format!("upload {}: it has no id", self.key),
            ));
        };
        let created = self.complete(&id).await?;
        // Completed, there is nothing left to abort; refused, its parts would cost money for ever.
        self.id = None;
        if created == Created::Exists {
            self.bucket.abort(&self.key, &id).await?;
        }
        Ok(created)
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.in_flight.shutdown().await;
        match self.id.take() {
            None => Ok(()),
            Some(id) => self.bucket.abort(&self.key, &id).await,
        }
    }
}

impl S3Upload {
    /// One PUT; a lost answer is settled by the bytes, which are still here.
    async fn finish_small(&self, body: Bytes) -> Result<Created> {
        let retrying = crate::Retrying::new(
            Arc::new(super::S3Store {
                bucket: self.bucket.clone(),
            }),
            self.bucket.policy.clone(),
        );
        crate::Store::put_new(&retrying, &self.key, body).await
    }
}

impl Drop for S3Upload {
    /// Abandoned: the parts are removed in the background. Should the process end first, a sweep removes them, or a
    /// lifecycle rule of the bucket for incomplete uploads.
    fn drop(&mut self) {
        if let Some(id) = self.id.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (bucket, key) = (self.bucket.clone(), self.key.clone());
            let mut in_flight = std::mem::take(&mut self.in_flight);
            runtime.spawn(async move {
                in_flight.shutdown().await;
                if let Err(error) = bucket.abort(&key, &id).await {
                    tracing::info!(%key, %error, "an abandoned upload was not removed");
                }
            });
        }
    }
}
