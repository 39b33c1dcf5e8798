//! The last step: nothing in the directory tells of its recovery, or of the server that did it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;

use hardstorage_report::{Error, Result, code};

use super::HandOver;
use crate::postgres::failed;
use crate::restore::{Layout, patroni_auto_conf, recovered_auto_conf, without_block};

/// What makes a server recover, or follow another one.
const SIGNALS: [&str; 2] = ["recovery.signal", "standby.signal"];
/// Read by `pg_ctl restart`: it names the configuration of the server that is gone.
const OPTIONS: &str = "postmaster.opts";
/// What `wal fetch` keeps for the next call.
const SPOOL: &str = "pg_wal/.pg_hardstorage";
/// CloudNativePG's last include; it makes the others itself.
const OVERRIDE: &str = "override.conf";
/// What Patroni keeps of its configuration: it goes before `bootstrap.dcs` when a cluster is made anew, and says what held
/// when the backup was taken: paused, following another cluster, members of that day.
const DYNAMIC: &str = "patroni.dynamic.json";

/// Makes a stopped copy ready. `source` is what the origin had in `postgresql.auto.conf`.
pub(super) fn hand_over(layout: &Layout, to: HandOver, source: &str) -> Result<()> {
    let data = &layout.data;
    for name in SIGNALS {
        let path = data.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(
                code::engine::RECOVERY,
                format!("{} is there, though recovery has ended", path.display()),
            ));
        }
    }
    let options = data.join(OPTIONS);
    absent(fs::remove_file(&options)).map_err(failed("remove", &options))?;
    let spool = data.join(SPOOL);
    absent(fs::remove_dir_all(&spool)).map_err(failed("remove", &spool))?;
    let text = match to {
        HandOver::Plain | HandOver::Drill => recovered_auto_conf(source),
        HandOver::Cnpg => without_block(source),
        HandOver::Patroni => patroni_auto_conf(source),
    };
    layout.write_small(&data.join("postgresql.auto.conf"), text.as_bytes())?;
    if to == HandOver::Cnpg {
        let path = data.join(OVERRIDE);
        if !path.exists() {
            layout.write_small(&path, b"")?;
        }
    }
    if to == HandOver::Patroni {
        let path = data.join(DYNAMIC);
        absent(fs::remove_file(&path)).map_err(failed("remove", &path))?;
    }
    let set = fs::set_permissions(data, fs::Permissions::from_mode(0o700));
    set.map_err(failed("set the mode of", data))?;
    let synced = File::open(data).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", data))
}

/// What is not there needs not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn nothing_tells_of_the_recovery() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let layout = Layout {
            data: data.clone(),
            tablespaces: BTreeMap::new(),
            wal: None,
            configuration: None,
            owner: None,
        };
        fs::create_dir_all(data.join(SPOOL)).unwrap();
        fs::write(data.join(OPTIONS), "postgres -c config_file=/tmp/x").unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o2770)).unwrap();
        let source = "work_mem = '4MB'\n";
        hand_over(&layout, HandOver::Plain, source).unwrap();
        let settings = || fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
        assert!(settings().starts_with(source) && settings().contains("archive_mode = 'off'"));
        assert!(!data.join(OPTIONS).exists() && !data.join(SPOOL).exists() && !data.join(OVERRIDE).exists());
        assert_eq!(data.metadata().unwrap().permissions().mode() & 0o7777, 0o700);

        hand_over(&layout, HandOver::Cnpg, &settings()).unwrap();
        assert_eq!(settings(), source);
        let made = data.join(OVERRIDE).metadata().unwrap();
        assert_eq!((made.len(), made.permissions().mode() & 0o777), (0, 0o600));
        fs::write(data.join(OVERRIDE), "a = 1\n").unwrap();
        hand_over(&layout, HandOver::Cnpg, source).unwrap();
        assert_eq!(fs::read_to_string(data.join(OVERRIDE)).unwrap(), "a = 1\n");

        fs::write(data.join(DYNAMIC), r#"{"pause": true}"#).unwrap();
        hand_over(
            &layout,
            HandOver::Patroni,
            "primary_conninfo = 'host=old'\nwork_mem = '4MB'\n",
        )
        .unwrap();
        assert_eq!(settings(), source);
        assert!(!data.join(DYNAMIC).exists());

        fs::write(data.join("standby.signal"), "").unwrap();
        assert!(hand_over(&layout, HandOver::Plain, source).is_err());
    }
}
