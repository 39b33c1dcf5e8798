//! What an answer of S3, or none, means for a store.

use std::future::Future;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStreamError;
use futures::future::BoxFuture;
use hardstorage_report::{Error, Retry, code};

use crate::Key;

/// An answer may take so long, and for each MiB of body a little longer: half a minute of silence or a line slower than
/// 128 KiB/s is a failure, a large body is not.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_PER_MIB: Duration = Duration::from_secs(8);

/// Runs a request within the time that its body deserves. Boxed, because the SDK's futures are large.
pub(super) fn within<'a, T: 'a>(
    body: u64,
    request: impl Future<Output = T> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    let time = PATIENCE + PATIENCE_PER_MIB.saturating_mul(u32::try_from(body >> 20).unwrap_or(u32::MAX));
    Box::pin(async move {
        tokio::time::timeout(time, request).await.map_err(|elapsed| {
            Error::new(code::storage::UNREACHABLE, "the store did not answer in time")
                .retry(Retry::Now)
                .source(elapsed)
        })
    })
}

/// The HTTP status of an answer, when there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn word<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .unwrap_or_default()
}

/// The name is taken.
pub(super) fn is_precondition<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(412) || word(error) == "PreconditionFailed"
}

/// Another conditional write of this name has not ended.
pub(super) fn is_conflict<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(word(error), "ConditionalRequestConflict" | "OperationAborted") || status(error) == Some(409)
}

/// The object is not there (and nothing was said against the bucket).
pub(super) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(404) && !matches!(word(error), "NoSuchBucket" | "NoSuchUpload")
}

/// The upload is not there any more: completed, or aborted.
pub(super) fn is_missing_upload<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    word(error) == "NoSuchUpload"
}

/// Looks for an error in the chain; an io::Error shows what it wraps only when asked.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// A body that broke off, or whose checksum is not the promised one.
pub(super) fn broken_body(error: ByteStreamError, key: &Key) -> Error {
    // The SDK's type for this is not public.
    let mismatch = DisplayErrorContext(&error).to_string().contains("checksum mismatch");
    let code = if mismatch {
        code::storage::CORRUPT
    } else {
        code::storage::UNREACHABLE
    };
    Error::new(code, format!("read {key}: the body broke off"))
        .retry(Retry::Now)
        .source(error)
}

/// An error with its causes on one line: the chain of credentials tells of each of its links on a line of its own.
fn one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source()).map(ToString::to_string);
    let text = causes.collect::<Vec<_>>().join(": ");
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// The error for a request that failed.
pub(super) fn failed<E>(error: SdkError<E, HttpResponse>, doing: &str) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if find::<CredentialsError>(&error).is_some() {
        return Error::new(code::storage::DENIED, format!("{doing}: no usable credentials"))
            .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role or a credentials directory")
            .source(one_line(&error));
    }
    if let Some(status) = status(&error) {
        return answered(&error, status, doing);
    }
    match &error {
        SdkError::ConstructionFailure(_) => {
            Error::new(code::usage::URL, format!("{doing}: the request cannot be built"))
                .hint("check region and endpoint of the URL; without an endpoint a region is needed")
                .source(error)
        }
        SdkError::DispatchFailure(_) => {
            let unreachable = Error::new(code::storage::UNREACHABLE, doing);
            match find::<rustls::Error>(&error) {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    unreachable.hint("the endpoint's certificate is not trusted: name its authority with ca_file=")
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    unreachable.hint("the endpoint does not speak TLS: write it with http://")
                }
                _ => unreachable.retry(Retry::Now),
            }
            .source(error)
        }
        _ => Error::new(code::storage::UNREACHABLE, doing)
            .retry(Retry::Now)
            .source(error),
    }
}

fn answered<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, status: u16, doing: &str) -> Error {
    let name = word(error);
    let header = |name| error.raw_response().and_then(|response| response.headers().get(name));
    let mut message = format!("{doing}: the store answered {status} {name}");
    if let Some(text) = error.as_service_error().and_then(ProvideErrorMetadata::message) {
        message.push_str(": ");
        message.push_str(text);
    }
    if let Some(id) = header("x-amz-request-id") {
        message.push_str(", request ");
        message.push_str(id);
    }
    let make = |code, retry| Error::new(code, message.clone()).retry(retry);
    match (name, status) {
        ("NoSuchBucket", _) => make(code::storage::BUCKET, Retry::Never),
        // Temporary credentials are read anew with the next try.
        ("ExpiredToken" | "TokenRefreshRequired", _) => make(code::storage::DENIED, Retry::Later),
        ("RequestTimeTooSkewed", _) => {
            make(code::storage::DENIED, Retry::Never).hint("this machine's clock and the store's differ too much")
        }
        (_, 301 | 307) | ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) => {
            let wrong = make(code::usage::URL, Retry::Never);
            match header("x-amz-bucket-region") {
                Some(region) => wrong.hint(format!("the bucket lies in another region: add region={region} to the URL")),
                None => wrong.hint("the bucket lies in another region or at another endpoint: correct the URL"),
            }
        }
        ("BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "InvalidDigest" | "IncompleteBody", _) => {
            make(code::storage::CORRUPT, Retry::Now)
        }
        ("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded", _) | (_, 507) => {
            make(code::storage::FULL, Retry::Never)
        }
        ("SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ServiceUnavailable" | "RequestLimitExceeded" | "Throttling", _)
        | (_, 429 | 503) => make(code::storage::UNREACHABLE, Retry::Later),
        ("RequestTimeout" | "InternalError", _) | (_, 408 | 500 | 502 | 504) => {
            make(code::storage::UNREACHABLE, Retry::Now)
        }
        (_, 401 | 403) => make(code::storage::DENIED, Retry::Never).hint(
            "check the credentials; the policy needs s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject \
             and s3:AbortMultipartUpload on its objects",
        ),
        // An error inside of an answer that began with 200, or an answer that is no S3 answer.
        (_, 200..=299) => make(code::storage::IO, Retry::Now),
        _ => make(code::storage::IO, Retry::Never),
    }
}
