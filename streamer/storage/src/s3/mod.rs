//! `s3://`: AWS and what speaks its protocol (MinIO, R2, Ceph and others).
//!
//! Create-only is `If-None-Match: *` on PutObject and on CompleteMultipartUpload. 412 means that the name is taken; 409
//! that another write of it is under way, which is tried again. The SDK's own retries are off: there is one retry layer
//! for all stores, and it alone knows how to settle a lost answer.

mod client;
mod clock;
mod credentials;
mod failure;
mod listing;
mod multipart;
mod sweep;
mod upload;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::StorageClass;
use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Result, Retry, code};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::{
    Caps, Created, Credentials, Heard, Key, ListRequest, Listing, ObjectMeta, RetryPolicy, S3Location, Store,
    SweepRequest, Swept, Upload,
};
use clock::LastTime;
use failure::{failed, is_conflict, is_missing, is_precondition, within};
use upload::S3Upload;

/// AWS refuses smaller parts, but for the last.
const MIN_PART: u64 = 5 << 20;

/// A bucket, or a prefix in one.
#[derive(Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

/// What requests and uploads in flight share.
#[derive(Debug)]
struct Bucket {
    client: Client,
    name: String,
    /// Empty, or ends with a slash.
    prefix: String,
    storage_class: Option<StorageClass>,
    policy: RetryPolicy,
    /// Parts in flight over all uploads.
    parts: Semaphore,
    /// Buffers of parts that are sent.
    spares: Mutex<Vec<BytesMut>>,
    /// Some answer has proved that the bucket exists.
    seen: AtomicBool,
    time: LastTime,
    url: String,
}

impl S3Store {
    /// Prepares a client; nothing is asked yet. `policy` is for the parts of uploads, which no layer above can repeat.
    pub async fn connect(
        location: &S3Location,
        credentials: &Credentials,
        concurrency: usize,
        policy: RetryPolicy,
    ) -> Result<S3Store> {
        let client = client::build(location, credentials).await?;
        Ok(S3Store {
            bucket: Arc::new(Bucket {
                client,
                name: location.bucket.clone(),
                prefix: if location.prefix.is_empty() {
                    String::new()
                } else {
                    format!("{}/", location.prefix)
                },
                storage_class: location.storage_class.as_deref().map(StorageClass::from),
                policy,
                parts: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
                spares: Mutex::default(),
                seen: AtomicBool::new(false),
                time: LastTime::default(),
                url: location.to_string(),
            }),
        })
    }
}

impl Bucket {
    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn saw(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    /// A HEAD's 404 does not say whether the object or the whole bucket is missing.
    async fn check_bucket(&self) -> Result<()> {
        if self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let doing = format!("look at bucket {}", self.name);
        match within(0, self.client.head_bucket().bucket(&self.name).send()).await {
            Ok(Ok(_)) => {
                self.saw();
                Ok(())
            }
            Ok(Err(error)) if is_missing(&error) => Err(Error::new(
                code::storage::BUCKET,
                format!("the bucket {} does not exist", self.name),
            )),
            Ok(Err(error)) => Err(failed(error, &doing)),
            Err(timeout) => Err(timeout.context(doing)),
        }
    }

    /// One create-only PUT.
    async fn put_new(self: &Arc<Self>, key: &Key, body: Bytes) -> Result<Created> {
        let length = body.len() as u64;
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.path(key))
            .if_none_match("*")
            .set_storage_class(self.storage_class.clone())
            .body(ByteStream::from(body))
            .customize()
            .interceptor(self.listener())
            .send();
        let doing = format!("write {key}");
        match within(length, request)
            .await
            .map_err(|timeout| timeout.context(&doing))?
        {
            Ok(_) => {
                self.saw();
                Ok(Created::Created)
            }
            Err(error) if is_precondition(&error) => {
                self.saw();
                Ok(Created::Exists)
            }
            Err(error) if is_conflict(&error) => {
                let message = format!("{doing}: another write of this name is under way");
                Err(Error::new(code::storage::IO, message).retry(Retry::Now))
            }
            Err(error) => Err(failed(error, &doing)),
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<aws_sdk_s3::operation::head_object::HeadObjectOutput>> {
        let doing = format!("look at {key}");
        let request = self.client.head_object().bucket(&self.name).key(self.path(key)).send();
        match within(0, request).await.map_err(|timeout| timeout.context(&doing))? {
            Ok(head) => {
                self.saw();
                Ok(Some(head))
            }
            Err(error) if is_missing(&error) => {
                self.check_bucket().await?;
                Ok(None)
            }
            Err(error) => Err(failed(error, &doing)),
        }
    }

    /// Reads a body of known length to its end.
    async fn read(mut body: ByteStream, length: u64, key: &Key) -> Result<Bytes> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30));
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| failure::broken_body(error, key))?);
            if bytes.len() as u64 > length {
                break;
            }
        }
        if bytes.len() as u64 == length {
            return Ok(bytes.freeze());
        }
        let message = format!("read {key}: {} bytes came, {length} were promised", bytes.len());
        Err(Error::new(code::storage::CORRUPT, message).retry(Retry::Now))
    }
}

fn timestamp(time: Option<&DateTime>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos() as i32).ok())
}

#[async_trait]
impl Store for S3Store {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        self.bucket.put_new(key, body).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(S3Upload::new(self.bucket.clone(), key.clone())))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let bucket = &self.bucket;
        let doing = format!("read {key}");
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .send();
        let answer = match within(0, request).await.map_err(|timeout| timeout.context(&doing))? {
            Ok(answer) => answer,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed(error, &doing)),
        };
        bucket.saw();
        let Some(length) = answer.content_length().and_then(|length| u64::try_from(length).ok()) else {
            return Err(Error::new(
                code::storage::IO,
                format!("{doing}: the store does not say how long it is"),
            ));
        };
        within(length, Bucket::read(answer.body, length, key)).await?.map(Some)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let bucket = &self.bucket;
        let doing = format!("read {key}");
        let beyond = |size: u64| {
            let message = format!("{doing}: bytes {}..{} of {size}", range.start, range.end);
            Error::new(code::storage::CORRUPT, message)
        };
        let not_there = || Error::new(code::storage::OBJECT, format!("{doing}: not there"));
        if range.is_empty() {
            // HTTP has no way to ask for nothing.
            let head = self.head(key).await?.ok_or_else(not_there)?;
            return if range.start == range.end && range.end <= head.size {
                Ok(Bytes::new())
            } else {
                Err(beyond(head.size))
            };
        }
        let length = range.end - range.start;
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .send();
        let answer = match within(0, request).await.map_err(|timeout| timeout.context(&doing))? {
            Ok(answer) => answer,
            Err(error) if is_missing(&error) => return Err(not_there()),
            Err(error) if failure::status(&error) == Some(416) => {
                let size = self.head(key).await?.ok_or_else(not_there)?.size;
                return Err(beyond(size));
            }
            Err(error) => return Err(failed(error, &doing)),
        };
        bucket.saw();
        let whole = answer.content_range().and_then(|text| text.rsplit_once('/'));
        match whole.and_then(|(_, size)| size.parse::<u64>().ok()) {
            Some(size) if size < range.end => return Err(beyond(size)),
            Some(_) => {}
            // Without Content-Range the body is the whole object from its beginning.
            None if range.start == 0 && answer.content_length() == i64::try_from(length).ok() => {}
            None => {
                return Err(Error::new(
                    code::storage::IO,
                    format!("{doing}: the store does not serve ranges"),
                ));
            }
        }
        within(length, Bucket::read(answer.body, length, key)).await?
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        let Some(head) = self.bucket.head(key).await? else {
            return Ok(None);
        };
        let size = head.content_length().and_then(|length| u64::try_from(length).ok());
        let size = size.ok_or_else(|| {
            let message = format!("look at {key}: the store does not say how long it is");
            Error::new(code::storage::IO, message)
        })?;
        Ok(Some(ObjectMeta {
            key: key.clone(),
            size,
            modified: timestamp(head.last_modified()),
        }))
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        listing::list(&self.bucket, request).await
    }

    /// S3 does not tell whether there was something to remove, so it is asked first.
    async fn delete(&self, key: &Key) -> Result<bool> {
        let bucket = &self.bucket;
        if bucket.head(key).await?.is_none() {
            return Ok(false);
        }
        let doing = format!("remove {key}");
        let request = bucket
            .client
            .delete_object()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .send();
        match within(0, request).await.map_err(|timeout| timeout.context(&doing))? {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(failed(error, &doing)),
        }
    }

    /// Names and bytes are durable with the answer to the write.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// What a listing shows was answered to its writer only once it was durable.
    async fn confirm(&self, _keys: &[Key]) -> Result<()> {
        Ok(())
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        sweep::sweep(&self.bucket, request).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        clock::now(&self.bucket).await.map(|heard| heard.time)
    }

    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        match self.bucket.time.within(age) {
            Some(heard) => Ok(heard),
            None => clock::now(&self.bucket).await,
        }
    }

    fn caps(&self) -> Caps {
        Caps {
            create_only: true,
            min_part: MIN_PART,
            remote: true,
        }
    }

    fn url(&self) -> String {
        self.bucket.url.clone()
    }
}
