//! `wal push`, the archive_command: 0 when the file is durable, anything else otherwise, so that PostgreSQL keeps it and
//! tries again.
//!
//! The codes are those of every command. PostgreSQL takes any of them for "not yet"; only above 125 would its archiver
//! end, and nothing here ends so.

use hardstorage_engine::push::{PushResult, WalFile, push};
use hardstorage_report::Result;
use hardstorage_repository::Mode;

use crate::app::App;
use crate::args::PushArgs;
use crate::printer::Report;

impl Report for PushResult {
    /// Nothing: the server's log would have a line for each segment.
    fn text(&self) -> String {
        String::new()
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: PushArgs) -> Result<PushResult> {
    let file = WalFile::look(&args.path)?;
    let url = app.repo_url(&args.repo, Some(&args.deployment))?;
    let repository = app.repository_of(&url, Mode::Write, &args.deployment).await?;
    push(&repository, &args.deployment, file, app.printer.as_ref()).await
}
