//! The claim on places that hold files already, and how a data directory is made one that cannot be started.
//!
//! The markers come first, then the control file goes, then the server is looked for once more. PostgreSQL makes its
//! `postmaster.pid` before it reads the control file: whichever comes later sees the other, so that either the server
//! does not start or nothing was changed. From then on only a restore that is done gives the directory a control file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};

use super::claim::{Claim, Root, own};
use super::directory::{Layout, failed};
use super::marker::Marker;
use super::onto::{Onto, Standing, Unfinished, standing};
use crate::recover::end_orphan;

/// Where the control file waits until it is certain that no server runs.
const ASIDE: &str = "global/pg_control.unfinished";
const CONTROL: &str = "global/pg_control";

impl Claim {
    /// Claims every place, or none, and takes the control file away. What is there stays until it is written over.
    pub(super) fn cover(layout: &Layout, onto: Onto, wanted: &Unfinished) -> Result<Claim> {
        let mut claim = Claim::of(layout);
        claim.covers = true;
        let inside = |path: &Path| path != layout.data && path.starts_with(&layout.data);
        let claimed = layout
            .places()
            .filter(|path| !inside(path))
            .try_for_each(|path| claim.add_standing(layout, path, onto, wanted));
        let ready = claimed
            .and_then(|()| claim.disarm())
            .and_then(|()| claim.roots.iter().try_for_each(|root| own(layout, &root.path)));
        match ready {
            Ok(()) => Ok(claim),
            Err(error) => {
                claim.give_back();
                Err(error)
            }
        }
    }

    fn add_standing(&mut self, layout: &Layout, path: &Path, onto: Onto, wanted: &Unfinished) -> Result<()> {
        let found = standing(path, onto, wanted)?;
        let directory = || File::open(path).map_err(|error| failed("open", path, error));
        let root = match found {
            Standing::Free => Root::take(layout, path, None, Some(wanted))?,
            Standing::Left => {
                let marker = Marker::resume(path)?;
                // Who had it meanwhile may have been another restore.
                standing(path, onto, wanted)?;
                marker.tell(wanted)?;
                Root {
                    path: path.to_owned(),
                    made: false,
                    taken_over: true,
                    covered: true,
                    directory: directory()?,
                    marker,
                }
            }
            Standing::Held => Root {
                path: path.to_owned(),
                made: false,
                taken_over: false,
                covered: true,
                directory: directory()?,
                marker: Marker::create(path, None, Some(wanted))?,
            },
        };
        self.roots.push(root);
        Ok(())
    }

    /// Whether it was made over places that may hold files.
    pub(super) fn covers(&self) -> bool {
        self.covers
    }

    fn disarm(&self) -> Result<()> {
        let Some(root) = self.roots.first().filter(|root| root.covered) else {
            return Ok(());
        };
        if root.taken_over {
            end_orphan(&self.data)?;
        }
        let (control, aside) = (self.data.join(CONTROL), self.data.join(ASIDE));
        let moved = match fs::symlink_metadata(self.data.join("global")) {
            // Half a restore has none yet, or one that leads nowhere: the sweep sees to it.
            Ok(about) if about.is_dir() => rename(&control, &aside)?,
            _ => false,
        };
        let Err(error) = self.no_server() else {
            return Ok(());
        };
        if moved {
            rename(&aside, &control)?;
        }
        Err(Error::new(
            code::engine::TARGET_RUNNING,
            format!("a server runs in {}, or was killed", self.data.display()),
        )
        .source(error))
    }
}

/// Durably; false when there is nothing to rename.
fn rename(from: &Path, to: &Path) -> Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("rename", from, error)),
    }
    let folder: PathBuf = to.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let synced = File::open(&folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync", &folder, error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use hardstorage_report::{PointKind, RecoveryPoint, SystemId};

    use super::super::marker::MARKER;
    use super::*;

    fn layout(root: &Path) -> Layout {
        Layout {
            data: root.join("data"),
            tablespaces: BTreeMap::from([(7, root.join("space"))]),
            wal: None,
            configuration: None,
            owner: None,
        }
    }

    fn wanted(layout: &Layout, number: u16) -> Unfinished {
        Unfinished {
            restores: format!("db1.full.20260625T083040Z.{number:04x}").parse().unwrap(),
            deployment: "db1".parse().unwrap(),
            cluster: SystemId(7),
            postgres: 18,
            data: layout.data.clone(),
            target: RecoveryPoint::new(PointKind::Immediate, true),
        }
    }

    /// A data directory of cluster 7 with a tablespace.
    fn stopped(root: &Path) -> Layout {
        let layout = layout(root);
        for folder in ["data/global", "data/pg_tblspc", "space/PG_18_1"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(layout.data.join("PG_VERSION"), "18\n").unwrap();
        fs::write(layout.data.join(CONTROL), 7u64.to_ne_bytes()).unwrap();
        std::os::unix::fs::symlink(root.join("space"), layout.data.join("pg_tblspc/7")).unwrap();
        layout
    }

    #[test]
    fn what_was_killed_is_gone_on_with_by_its_like_alone() {
        let root = tempfile::tempdir().unwrap();
        let layout = stopped(&root.path().canonicalize().unwrap());
        let [one, two] = [1, 2].map(|number| wanted(&layout, number));
        assert!(
            Claim::cover(&layout, Onto::Resume, &one).is_err(),
            "nothing was interrupted"
        );
        assert!(layout.data.join(CONTROL).exists() && !layout.data.join(MARKER).exists());
        let claim = Claim::cover(&layout, Onto::Delta, &one).unwrap();
        assert!(!layout.data.join(CONTROL).exists());
        let busy = Claim::cover(&layout, Onto::Delta, &one).unwrap_err();
        assert!(busy.is(code::engine::TARGET_NOT_EMPTY), "{busy}");
        drop(claim);

        let other = Claim::cover(&layout, Onto::Resume, &two).unwrap_err();
        assert!(other.is(code::engine::RESUME_MISMATCH), "{other}");
        let moved = Unfinished {
            data: root.path().join("other"),
            ..one.clone()
        };
        let error = standing(&root.path().join("space"), Onto::Delta, &moved).unwrap_err();
        assert!(error.is(code::engine::RESUME_MISMATCH), "{error}");
        let foreign = Unfinished {
            cluster: SystemId(8),
            ..one.clone()
        };
        let error = Claim::cover(&layout, Onto::Delta, &foreign).unwrap_err();
        assert!(error.is(code::engine::TARGET_FOREIGN), "{error}");
        drop(Claim::cover(&layout, Onto::Resume, &one).unwrap());
        // A delta to another backup changes what the marker says.
        drop(Claim::cover(&layout, Onto::Delta, &two).unwrap());
        assert!(Claim::cover(&layout, Onto::Resume, &one).is_err());
        let claim = Claim::cover(&layout, Onto::Resume, &two).unwrap();
        claim.release().unwrap();
        assert!(!layout.data.join(MARKER).exists() && !root.path().join("space").join(MARKER).exists());
    }

    #[test]
    fn a_server_that_starts_meanwhile_keeps_its_control_file() {
        let root = tempfile::tempdir().unwrap();
        let layout = stopped(&root.path().canonicalize().unwrap());
        fs::write(layout.data.join("postmaster.pid"), "1\n").unwrap();
        let error = Claim::cover(&layout, Onto::Delta, &wanted(&layout, 1)).unwrap_err();
        assert!(error.is(code::engine::TARGET_RUNNING), "{error}");
        assert_eq!(fs::read(layout.data.join(CONTROL)).unwrap(), 7u64.to_ne_bytes());
        assert!(!layout.data.join(MARKER).exists() && !root.path().join("space").join(MARKER).exists());
        assert!(root.path().join("space/PG_18_1").exists());
    }
}
