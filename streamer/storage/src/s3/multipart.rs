//! The requests of an upload in parts, each tried again with the store's own policy.

use std::sync::PoisonError;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Result, code};

use super::Bucket;
use super::failure::{failed, is_missing_upload, within};
use super::upload::{MARK, PART};
use crate::Key;

/// Buffers kept for the next part; memory that was touched once is used again.
const SPARES: usize = 8;

impl Bucket {
    /// A buffer of an earlier part, or a new one.
    pub(super) fn spare(&self) -> BytesMut {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        spares.pop().unwrap_or_default()
    }

    /// Takes a sent body back, if it was a part's buffer and nobody else holds it.
    pub(super) fn keep(&self, body: Bytes) {
        if let Ok(mut buffer) = body.try_into_mut() {
            buffer.clear();
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            if buffer.capacity() >= PART && spares.len() < SPARES {
                spares.push(buffer);
            }
        }
    }

    /// Begins an upload whose object will carry the mark; gives its id.
    pub(super) async fn begin_upload(&self, key: &Key, mark: &str) -> Result<String> {
        let doing = format!("begin to upload {key}");
        let mut tries = self.policy.begin();
        loop {
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.name)
                .key(self.path(key))
                .metadata(MARK, mark)
                .set_storage_class(self.storage_class.clone())
                .send();
            let error = match within(0, request).await {
                Ok(Ok(answer)) => match answer.upload_id {
                    Some(id) => return Ok(id),
                    None => Error::new(code::storage::IO, format!("{doing}: the store gives no upload id")),
                },
                Ok(Err(error)) => failed(error, &doing),
                Err(timeout) => timeout.context(&doing),
            };
            tries.again(error).await?;
        }
    }

    /// Sends one part until it is there.
    pub(super) async fn send_part(&self, key: &Key, id: &str, number: i32, body: &Bytes) -> Result<CompletedPart> {
        let doing = format!("upload part {number} of {key}");
        let mut tries = self.policy.begin();
        loop {
            let permit = self.parts.acquire().await;
            let request = self
                .client
                .upload_part()
                .bucket(&self.name)
                .key(self.path(key))
                .upload_id(id)
                .part_number(number)
                .body(ByteStream::from(body.clone()))
                .send();
            let answer = within(body.len() as u64, request).await;
            drop(permit);
            let error = match answer {
                Ok(Ok(answer)) => {
                    // With checksums on, the completion has to repeat each part's.
                    return Ok(CompletedPart::builder()
                        .part_number(number)
                        .set_e_tag(answer.e_tag)
                        .set_checksum_crc32(answer.checksum_crc32)
                        .set_checksum_crc32_c(answer.checksum_crc32_c)
                        .set_checksum_crc64_nvme(answer.checksum_crc64_nvme)
                        .set_checksum_sha1(answer.checksum_sha1)
                        .set_checksum_sha256(answer.checksum_sha256)
                        .build());
                }
                Ok(Err(error)) => failed(error, &doing),
                Err(timeout) => timeout.context(&doing),
            };
            tries.again(error).await?;
        }
    }

    /// Removes an upload and its parts.
    pub(super) async fn abort(&self, key: &Key, id: &str) -> Result<()> {
        let doing = format!("abort the upload of {key}");
        let mut tries = self.policy.begin();
        loop {
            let request = self
                .client
                .abort_multipart_upload()
                .bucket(&self.name)
                .key(self.path(key))
                .upload_id(id)
                .send();
            let error = match within(0, request).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if is_missing_upload(&error) => return Ok(()),
                Ok(Err(error)) => failed(error, &doing),
                Err(timeout) => timeout.context(&doing),
            };
            tries.again(error).await?;
        }
    }
}
