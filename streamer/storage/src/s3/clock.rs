//! The store's own time: the `Date` of an answer from the same endpoint, whatever else that answer says.
//!
//! Listings, writes and the question for the time itself are listened to. All of them are signed, so no cache between may
//! answer for the store; what says that it comes from one (`Age`) is not believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use tokio::time::Instant;

use super::failure::{failed, within};
use super::{Bucket, timestamp};
use crate::Heard;

const DOING: &str = "ask the store for its time";

pub(super) async fn now(bucket: &Arc<Bucket>) -> Result<Heard> {
    let listener = bucket.listener();
    let asked = listener.asked;
    let request = bucket.client.head_bucket().bucket(&bucket.name);
    let answer = within(0, request.customize().interceptor(listener).send())
        .await
        .map_err(|timeout| timeout.context(DOING))?;
    // Any answer tells the time, a refusal too; another one that was asked for meanwhile is as good.
    match (bucket.time.since(asked), answer) {
        (Some(heard), _) => Ok(heard),
        (None, Err(error)) => Err(failed(error, DOING)),
        (None, Ok(_)) => Err(Error::new(
            code::storage::IO,
            format!("{DOING}: its answers have no Date of their own"),
        )),
    }
}

fn parse(date: &str) -> Option<Timestamp> {
    timestamp(DateTime::from_str(date, DateTimeFormat::HttpDate).ok().as_ref())
}

/// What the store's last answers said of its time.
#[derive(Debug, Default)]
pub(super) struct LastTime(Mutex<Option<Heard>>);

impl LastTime {
    fn last(&self) -> Option<Heard> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was heard, if it was asked for at most so long ago.
    pub(super) fn within(&self, age: Duration) -> Option<Heard> {
        self.last().filter(|heard| heard.asked.elapsed() <= age)
    }

    fn since(&self, moment: Instant) -> Option<Heard> {
        self.last().filter(|heard| heard.asked >= moment)
    }

    fn keep(&self, heard: Heard) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.asked < heard.asked) {
            *last = Some(heard);
        }
    }
}

/// Listens to the answer of one request that is about to be sent.
#[derive(Debug)]
pub(super) struct Listener {
    asked: Instant,
    bucket: Arc<Bucket>,
}

impl Bucket {
    /// For a request that is sent now.
    pub(super) fn listener(self: &Arc<Self>) -> Listener {
        Listener {
            asked: Instant::now(),
            bucket: Arc::clone(self),
        }
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Listener {
    fn name(&self) -> &'static str {
        "Listener"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        if headers.get("age").is_none()
            && let Some(time) = headers.get("date").and_then(parse)
        {
            let asked = self.asked;
            self.bucket.time.keep(Heard { time, asked });
        }
        Ok(())
    }
}
