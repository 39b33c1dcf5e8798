//! Gives back the configuration that lay outside of the data directory: beside the target, each file below its old path.
//!
//! Not to where it came from: on this machine another server may read that. And not into the data directory, whose every
//! file PostgreSQL's own verifier compares with its list.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use hardstorage_report::{Result, Severity};
use hardstorage_repository::{ATTACHMENTS, BackupReader, EntryKey, ExternalFile, Manifest};
use serde_json::json;

use super::directory::failed;
use super::run::Run;

/// The name of the main configuration file among the attachments.
const MAIN: &str = "external/config_file";

/// The directory beside a data directory: `/srv/db1.configuration`.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".configuration");
    target.with_file_name(name)
}

/// Where the configuration goes, when the backup has any.
pub(super) fn place(manifest: &Manifest, target: &Path) -> Option<PathBuf> {
    let kept = manifest.external_files.iter().any(|file| file.attachment.is_some());
    kept.then(|| beside(target))
}

/// Where the main configuration file goes, and the root that it lies below, when it lay outside and is in the backup.
pub(super) fn restored(manifest: &Manifest, target: &Path) -> Option<(PathBuf, PathBuf)> {
    let main = |file: &&ExternalFile| file.attachment.as_deref() == Some(MAIN);
    let file = manifest.external_files.iter().find(main)?;
    let root = place(manifest, target)?;
    Some((below(&root, &file.path), root))
}

/// A path of the server below a directory; whatever would lead out of it is left away.
fn below(root: &Path, path: &str) -> PathBuf {
    let plain = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(part) => Some(part),
        _ => None,
    });
    plain.fold(root.to_owned(), |place, part| place.join(part))
}

impl Run<'_> {
    /// Writes them, when everything else is done, into a place that is claimed like every other.
    pub(super) async fn restore_configuration(&self, reader: &BackupReader) -> Result<()> {
        let Some(root) = &self.layout.configuration else {
            return Ok(());
        };
        let root = root.as_path();
        let mut files = 0;
        for file in &self.manifest().external_files {
            let Some(name) = &file.attachment else { continue };
            let key = EntryKey {
                tablespace: ATTACHMENTS,
                path: name.as_bytes().to_vec(),
            };
            let bytes = self.read_small(reader, &key).await?;
            let path = below(root, &file.path);
            let above = path.ancestors().skip(1).take_while(|above| *above != root);
            let mut above: Vec<&Path> = above.collect();
            while let Some(directory) = above.pop() {
                self.layout.make_directory(directory, 0o700)?;
            }
            self.layout.write_small(&path, &bytes)?;
            files += 1;
        }
        let directory = std::fs::File::open(root).map_err(|error| failed("open", root, error))?;
        rustix::fs::syncfs(&directory).map_err(|error| failed("sync", root, error.into()))?;
        self.emit(
            Severity::Info,
            "restore.configuration_restored",
            json!({"directory": root, "files": files}),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_beside_the_target_and_no_path_leaves_it() {
        let root = beside(Path::new("/srv/db1"));
        assert_eq!(root, Path::new("/srv/db1.configuration"));
        let of = |path| below(&root, path);
        assert_eq!(of("/etc/pg/a.conf"), Path::new("/srv/db1.configuration/etc/pg/a.conf"));
        assert_eq!(of("/etc/../../x"), Path::new("/srv/db1.configuration/etc/x"));
    }
}
