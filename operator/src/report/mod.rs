//! What engine pods say of themselves, pulled over HTTP. The operator asks; nothing is pushed, and no engine pod has a
//! token of Kubernetes.

mod http;
mod stream_pod;

use async_trait::async_trait;
use hardstorage_report::{BackupRecord, RunReport};

pub use http::HttpReports;
pub use stream_pod::stream_pod;

/// Why a pod could not be asked.
#[derive(Debug)]
pub struct Unheard(pub String);

impl std::fmt::Display for Unheard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unheard {}

/// A catalogue as a pod serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedCatalog {
    /// Its tag.
    pub etag: String,
    /// The repository's id.
    pub repository_id: String,
    /// The backups.
    pub backups: Vec<BackupRecord>,
}

/// Asks engine pods. A trait, so that tests answer for the pods.
#[async_trait]
pub trait Reports: Send + Sync {
    /// The report.
    async fn report(&self, ip: &str) -> Result<RunReport, Unheard>;
    /// The whole catalogue, read page by page; pages of two different states are never put together.
    async fn catalog(&self, ip: &str) -> Result<ServedCatalog, Unheard>;
    /// Says that the result of a run is stored.
    async fn heard(&self, ip: &str, run: &str) -> Result<(), Unheard>;
}
