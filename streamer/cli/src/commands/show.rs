//! `show`: one backup with all that its manifest says.

use hardstorage_engine::catalogue::kind_word;
use hardstorage_engine::restore::both_zones;
use hardstorage_report::{BackupId, ByteSize, DeploymentName, Error, Result, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{Catalog, DataChecksums, Manifest};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::columns::dash;
use crate::app::App;
use crate::args::{BackupChoice, ShowArgs};
use crate::printer::Report;

/// A whole manifest.
#[derive(Debug, Serialize)]
pub(crate) struct ShowResult {
    #[serde(flatten)]
    manifest: Manifest,
    manifest_hash: String,
    complete: bool,
    held: Option<String>,
    deleted: Option<String>,
    #[serde(skip)]
    zone: TimeZone,
}

impl Report for ShowResult {
    fn text(&self) -> String {
        let m = &self.manifest;
        let at = |time: Timestamp| both_zones(time, &self.zone);
        let mut out = format!(
            "Backup {}\n\
             Deployment      {}\n\
             Type            {}\n\
             PostgreSQL      {}\n\
             Cluster ID      {}\n\
             Start LSN       {}\n\
             Stop LSN        {}\n\
             Timeline        {}\n\
             Started         {}\n\
             Stopped         {}\n\
             Complete        {}\n\
             Page checksums  {}\n\
             Tablespaces     {}\n\
             Files           {}\n\
             Logical bytes   {}\n\
             Stored          {} in {} new packs of {} needed\n\
             Pages           {} new, {} reused, {} zero\n\
             Ancestor        {}\n\
             Signature       ed25519 / fingerprint {}\n\
             Data key        {}\n\
             Manifest hash   {}\n\
             Written by      {} on {} (writer {})\n",
            m.backup_id,
            m.deployment,
            kind_word(m.kind),
            m.server.version,
            m.lineage.system_id,
            m.wal.start_lsn,
            m.wal.stop_lsn,
            m.wal.timeline,
            at(m.times.started_at),
            at(m.times.stopped_at),
            if self.complete {
                "yes: the WAL that makes it consistent is in the repository"
            } else {
                "NO: WAL is missing"
            },
            match m.server.data_checksums {
                DataChecksums::On => "on",
                DataChecksums::Off => "off",
                DataChecksums::Unknown => "not known",
            },
            m.tablespaces.len() + 1,
            m.totals.files,
            ByteSize(m.totals.logical_bytes),
            ByteSize(m.totals.stored_bytes),
            m.totals.new_packs,
            m.totals.needed_packs,
            m.totals.new_pages,
            m.totals.reused_pages,
            m.totals.zero_pages,
            dash(m.ancestor.as_ref().map(|ancestor| &ancestor.backup_id)),
            m.signer,
            hex::encode(m.data_key_id),
            self.manifest_hash,
            m.writer.tool,
            m.writer.host,
            m.writer.id,
        );
        let optional = [
            ("Label", &m.label),
            ("Run", &m.writer.run_id),
            ("Held", &self.held),
            ("Deleted", &self.deleted),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                out.push_str(&format!("{name:<15} {value}\n"));
            }
        }
        for (key, value) in &m.annotations {
            out.push_str(&format!("Annotation      {key}={value}\n"));
        }
        for file in &m.external_files {
            let state = file.note.as_deref().unwrap_or("included");
            out.push_str(&format!("Outside PGDATA  {} ({state})\n", file.path));
        }
        for page in &m.damaged_pages {
            out.push_str(&format!(
                "DAMAGED         {} block {}: {}\n",
                page.path,
                dash(page.block),
                page.reason
            ));
        }
        out
    }
}

/// The backup that a person means.
pub(super) fn chosen(catalog: &Catalog, name: &DeploymentName, choice: BackupChoice) -> Result<BackupId> {
    let missing = |what: String| Error::new(code::repository::BACKUP_MISSING, what);
    let id = match choice {
        BackupChoice::Id(id) => id,
        BackupChoice::Latest => {
            let latest = catalog.latest().map(|entry| entry.backup_id.clone());
            latest.ok_or_else(|| missing(format!("{name} has no backup")))?
        }
    };
    if id.deployment() != name.as_str() {
        return Err(missing(format!(
            "{id} is a backup of {}, not of {name}",
            id.deployment()
        )));
    }
    Ok(id)
}

/// `show DEPLOYMENT BACKUP`.
pub(crate) async fn show(app: &App, args: ShowArgs) -> Result<ShowResult> {
    let deployment = app.existing(&args.repo, &args.deployment).await?;
    let catalog = deployment.backups().await?;
    let id = chosen(&catalog, &args.deployment, args.backup)?;
    let stored = Manifest::load(&deployment, &id).await?.committed(&id)?;
    let state = catalog.get(&id).and_then(|entry| entry.state.as_ref().ok());
    let mark = |mark: &hardstorage_repository::Mark| format!("{} ({})", mark.at, mark.reason);
    Ok(ShowResult {
        complete: WalArchive::makes_consistent(&deployment, &stored.manifest).await?,
        manifest_hash: hex::encode(stored.hash),
        held: state.and_then(|state| state.held.as_ref()).map(mark),
        deleted: state.and_then(|state| state.deleted.as_ref()).map(mark),
        manifest: stored.manifest,
        zone: app.printer.zone().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{NEW, ancestor, manifest, zone};
    use crate::printer::shown;
    use hardstorage_repository::{DamagedPage, ExternalFile, Tablespace};

    fn result(manifest: Manifest) -> ShowResult {
        ShowResult {
            manifest,
            manifest_hash: "ab".repeat(32),
            complete: true,
            held: None,
            deleted: None,
            zone: zone(),
        }
    }

    #[test]
    fn a_plain_backup() {
        insta::assert_snapshot!(shown("show", &result(manifest(NEW, "2026-11-22T08:01:00Z"))));
    }

    #[test]
    fn one_of_which_there_is_much_to_say() {
        let mut manifest = manifest(NEW, "2026-11-22T08:01:00Z");
        manifest.label = Some("before the migration".to_owned());
        manifest.annotations.insert("owner".to_owned(), "dba".to_owned());
        manifest.writer.run_id = Some("nightly-17".to_owned());
        manifest.ancestor = Some(ancestor());
        manifest.tablespaces.push(Tablespace {
            oid: 16_400,
            location: "/srv/fast".to_owned(),
            size: 1 << 30,
        });
        let outside = |path: &str, attachment: Option<&str>, note: Option<&str>| ExternalFile {
            path: path.to_owned(),
            attachment: attachment.map(str::to_owned),
            note: note.map(str::to_owned),
        };
        manifest.external_files = vec![
            outside("/etc/postgresql/postgresql.conf", Some("external/config_file"), None),
            outside("/etc/postgresql/pg_hba.conf", None, Some("permission denied")),
        ];
        manifest.damaged_pages.push(DamagedPage {
            path: "base/5/1259".to_owned(),
            block: Some(7),
            reason: "the page's checksum does not hold".to_owned(),
        });
        let mut result = result(manifest);
        result.complete = false;
        result.held = Some("2026-11-22T09:00:00Z (before the move)".to_owned());
        result.deleted = Some("2026-11-22T10:00:00Z (retention gfs)".to_owned());
        insta::assert_snapshot!(result.text());
    }
}
