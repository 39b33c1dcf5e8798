//! The `restore_command` that `restore` writes: where the recovering server finds this program, the repository and the keys.
//!
//! It runs without HOME and elsewhere: every path in it is absolute. It runs perhaps in another container, where program and
//! credentials lie at other places: every part of it can be given. It holds no secret: credentials are named by their
//! directory, and a repository's URL has none.

use std::path::{Path, PathBuf};

use hardstorage_engine::restore::{RestorePlan, restore_command};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::Location;

use crate::app::App;
use crate::args::FetchPlaces;

/// Builds it.
pub(super) fn fetch_command(
    app: &App,
    places: &FetchPlaces,
    deployment: &DeploymentName,
    url: &str,
    plan: &RestorePlan,
) -> Result<String> {
    let program = match &places.program {
        Some(path) => path.clone(),
        None => {
            std::env::current_exe().map_err(|error| Error::new(code::cli::IO, "find this program").source(error))?
        }
    };
    // What cannot be read there cannot be read here: a mistake is found before anything is restored.
    let url = places.repo.as_deref().unwrap_or(url);
    Location::parse(url)?;
    let before = [text(&program), "wal".into(), "fetch".into(), deployment.to_string()];
    let mut after = vec!["--repo".to_owned(), url.to_owned()];
    let mut add = |name: &str, value: String| after.extend([name.to_owned(), value]);
    if let Some(config) = config(app, places) {
        add("--config", text(&config));
    }
    match (&places.credentials_dir, &places.keyring, app.credentials_dir()) {
        (Some(dir), ..) => add("--credentials-dir", text(dir)),
        (None, Some(dir), _) => add("--keyring", text(dir)),
        (None, None, Some(dir)) => add("--credentials-dir", text(dir)),
        (None, None, None) => add("--keyring", text(app.keyring_dir())),
    }
    add("--lineage", plan.lineage().to_string());
    add("--wal-segment-size", plan.segment_size().bytes().to_string());
    add("--timeline", plan.target_timeline.to_string());
    after.push("--quiet".to_owned());
    Ok(restore_command(&before, &after))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A file of this machine says nothing of another; a file that is named must be there.
fn config(app: &App, places: &FetchPlaces) -> Option<PathBuf> {
    let own = (places.program.is_none() && app.config_file.exists()).then(|| app.config_file.clone());
    places.config.clone().or(own)
}
