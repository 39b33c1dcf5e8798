//! The store's own time: the `Date` of a fresh answer from the same endpoint, whatever else that answer says.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;

use super::failure::{failed, within};
use super::{Bucket, timestamp};

pub(super) async fn now(bucket: &Bucket) -> Result<Timestamp> {
    let date = DateHeader::default();
    let doing = "ask the store for its time";
    let request = bucket
        .client
        .head_bucket()
        .bucket(&bucket.name)
        .customize()
        .interceptor(date.clone());
    let answer = within(0, request.send())
        .await
        .map_err(|timeout| timeout.context(doing))?;
    let heard = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (heard, answer) {
        (Some(date), _) => {
            let time = DateTime::from_str(&date, DateTimeFormat::HttpDate).ok();
            timestamp(time.as_ref())
                .ok_or_else(|| Error::new(code::storage::IO, format!("{doing}: {date:?} is no date")))
        }
        (None, Err(error)) => Err(failed(error, doing)),
        (None, Ok(_)) => Err(Error::new(
            code::storage::IO,
            format!("{doing}: its answers have no Date"),
        )),
    }
}

/// Keeps the `Date` of the answer.
#[derive(Debug, Clone, Default)]
struct DateHeader(Arc<Mutex<Option<String>>>);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(date.to_owned());
        }
        Ok(())
    }
}
