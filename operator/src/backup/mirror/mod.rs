//! Mirrors: Backup objects that show what lies in a repository. They are made from a catalogue and start nothing, ever.
//!
//! Removing a mirror removes an object, never a backup. What is removed is what we made ourselves, and never an object that
//! says that its data is to go with it: that word was meant for a person's `kubectl delete`.

mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::guarded::Guarded;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_crds::{Backup, BackupPhase, BackupSpec, BackupStatus, Recorded, RepositoryRef};
use hardstorage_report::BackupRecord;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{self, MANAGER, annotation, label};

pub use status::{of_record, took};

/// So many are made at the same time.
const AT_ONCE: usize = 4;
/// Objects in a page.
const PAGE: u32 = 100;

/// Which names in a repository somebody shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// These: a Deployment its lineages.
    Only(BTreeSet<String>),
    /// All but these: a Repository those that no Deployment of its namespace shows.
    Except(BTreeSet<String>),
}

impl Names {
    fn holds(&self, name: &str) -> bool {
        match self {
            Names::Only(names) => names.contains(name),
            Names::Except(names) => !names.contains(name),
        }
    }
}

/// Where mirrors go, and which.
#[derive(Debug, Clone)]
pub struct Place {
    /// Their namespace.
    pub namespace: String,
    /// The repository, as it is named from there: without a namespace when it is the same.
    pub repository: RepositoryRef,
    /// The names that are shown there.
    pub names: Names,
    /// One of our objects in that namespace with which the mirrors go; they hold no data.
    pub owner: Option<OwnerReference>,
    /// How many of each name are shown; those on hold are always.
    pub limit: usize,
}

/// What is to be done so that the objects show the catalogue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// To be made, each with its status.
    pub make: Vec<Backup>,
    /// Objects with the status that they should have.
    pub update: Vec<(Backup, BackupStatus)>,
    /// To be removed: objects only.
    pub remove: Vec<Backup>,
}

/// Compares a catalogue with the Backup objects of the place's namespace. Pure.
pub fn changes(place: &Place, records: &[BackupRecord], existing: &[Backup], now: Timestamp) -> Changes {
    let known: HashMap<&str, &BackupRecord> = records
        .iter()
        .filter(|record| place.names.holds(record.backup_id.deployment()))
        .map(|record| (record.backup_id.as_str(), record))
        .collect();
    let objects: Vec<Shown<'_>> = existing
        .iter()
        .filter_map(|object| shows(place, object, &known))
        .collect();
    let has_object: BTreeSet<&str> = objects.iter().map(|shown| shown.id).collect();
    let window = window(place.limit, known.values().copied(), &has_object);
    let by_run: BTreeSet<&str> = objects
        .iter()
        .filter(|shown| !shown.mirror)
        .map(|shown| shown.id)
        .collect();
    let told = told_by_schedules(&objects);
    let mut out = Changes::default();
    let mut mirrored: BTreeSet<&str> = BTreeSet::new();
    for shown in &objects {
        let object = shown.object;
        let record = known.get(shown.id);
        let keep = match record {
            Some(_) if shown.mirror => window.contains(shown.id) && !by_run.contains(shown.id),
            Some(_) => window.contains(shown.id) || told.contains(&object.name_any()),
            // A run's own object may be newer than this catalogue; a mirror cannot be.
            None => !shown.mirror,
        };
        if !keep {
            if removable(object) && (shown.mirror || at_rest(object)) {
                out.remove.push(object.clone());
                continue;
            }
        } else if shown.mirror {
            mirrored.insert(shown.id);
        }
        let Some(record) = record else { continue };
        let before = object.status.clone().unwrap_or_default();
        let after = if shown.mirror {
            of_record(record, object, now)
        } else {
            status::of_run(record, object, now)
        };
        if differs(&before, &after) && object.metadata.deletion_timestamp.is_none() {
            out.update.push((object.clone(), after));
        }
    }
    let taken: BTreeSet<String> = existing.iter().map(kube::ResourceExt::name_any).collect();
    let mut new: Vec<&BackupRecord> = known
        .values()
        .copied()
        .filter(|record| {
            let id = record.backup_id.as_str();
            window.contains(id) && !record.deleted && !by_run.contains(id) && !mirrored.contains(id)
        })
        .collect();
    new.sort_by(|a, b| a.backup_id.cmp(&b.backup_id));
    for record in new {
        let object = mirror(place, record, now);
        // Somebody's own object of that name stays what it is.
        if !taken.contains(&object.name_any()) {
            out.make.push(object);
        }
    }
    out
}

/// A Backup object that stands for a backup of this place.
struct Shown<'a> {
    object: &'a Backup,
    id: &'a str,
    mirror: bool,
}

fn shows<'a>(place: &Place, object: &'a Backup, known: &HashMap<&'a str, &'a BackupRecord>) -> Option<Shown<'a>> {
    if let Some(recorded) = &object.spec.recorded {
        let home = |reference: &RepositoryRef| reference.namespace.clone().unwrap_or_else(|| place.namespace.clone());
        let same = recorded.repository_ref.name == place.repository.name
            && home(&recorded.repository_ref) == home(&place.repository);
        return (same && place.names.holds(&recorded.name)).then(|| Shown {
            object,
            id: &recorded.backup_id,
            mirror: true,
        });
    }
    let status = object.status.as_ref();
    if let Some(id) = status.and_then(|status| status.backup_id.as_deref()) {
        return known.contains_key(id).then_some(Shown {
            object,
            id,
            mirror: false,
        });
    }
    // Its run is in the catalogue before its status is.
    let annotated = object.annotations().get(annotation::RUN_ID).map(String::as_str);
    let run = status.and_then(|status| status.run_id.as_deref()).or(annotated)?;
    let record = known.values().find(|record| record.run_id.as_deref() == Some(run))?;
    Some(Shown {
        object,
        id: record.backup_id.as_str(),
        mirror: false,
    })
}

/// The last good run of each schedule: what it tells of itself. When others run more often it is out of the window, and an
/// older failure would be the last that is left.
fn told_by_schedules(objects: &[Shown<'_>]) -> BTreeSet<String> {
    let mut last: BTreeMap<&str, (&str, &str, String)> = BTreeMap::new();
    for shown in objects.iter().filter(|shown| !shown.mirror && at_rest(shown.object)) {
        if let Some(schedule) = shown.object.labels().get(label::SCHEDULE) {
            let this = (moment_of(shown.id), shown.id, shown.object.name_any());
            let known = last.entry(schedule).or_insert_with(|| this.clone());
            if this > *known {
                *known = this;
            }
        }
    }
    last.into_values().map(|(.., name)| name).collect()
}

/// The ids that are shown: of each name the newest, those on hold, and of those marked as deleted the newest that were
/// shown before.
fn window<'a>(
    limit: usize,
    records: impl Iterator<Item = &'a BackupRecord>,
    has_object: &BTreeSet<&str>,
) -> BTreeSet<&'a str> {
    let mut names: BTreeMap<&str, Vec<&BackupRecord>> = BTreeMap::new();
    for record in records {
        names.entry(record.backup_id.deployment()).or_default().push(record);
    }
    let mut out = BTreeSet::new();
    for list in names.values_mut() {
        list.sort_by(|a, b| moment(b).cmp(moment(a)).then_with(|| b.backup_id.cmp(&a.backup_id)));
        let id = |record: &&'a BackupRecord| record.backup_id.as_str();
        let there = list.iter().copied().filter(|record| !record.deleted);
        let gone = list.iter().copied().filter(|record| record.deleted);
        out.extend(there.clone().take(limit).map(|record| id(&record)));
        out.extend(there.filter(|record| record.held).map(|record| id(&record)));
        let gone = gone.filter(|record| has_object.contains(record.backup_id.as_str()));
        out.extend(gone.take(limit).map(|record| id(&record)));
    }
    out
}

/// The moment in an id: there even when the manifest cannot be read.
fn moment(record: &BackupRecord) -> &str {
    moment_of(record.backup_id.as_str())
}

fn moment_of(id: &str) -> &str {
    id.rsplit('.').nth(1).unwrap_or_default()
}

/// Whether we made it and may take it away.
fn removable(object: &Backup) -> bool {
    object.labels().get(label::MANAGED_BY).map(String::as_str) == Some(MANAGER)
        && !object.annotations().contains_key(annotation::DELETE_DATA)
        && object.metadata.deletion_timestamp.is_none()
}

/// Whether nothing more happens to the run that it stands for.
fn at_rest(object: &Backup) -> bool {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_ref());
    matches!(phase, Some(BackupPhase::Completed | BackupPhase::Tombstoned))
}

/// As they are written: the API server keeps whole seconds.
fn differs(before: &BackupStatus, after: &BackupStatus) -> bool {
    serde_json::to_value(before).ok() != serde_json::to_value(after).ok()
}

fn mirror(place: &Place, record: &BackupRecord, now: Timestamp) -> Backup {
    let id = record.backup_id.as_str();
    let mut object = Backup::new(
        &names::mirror(id),
        BackupSpec {
            recorded: Some(Recorded {
                repository_ref: place.repository.clone(),
                name: record.backup_id.deployment().to_owned(),
                backup_id: id.to_owned(),
            }),
            ..BackupSpec::default()
        },
    );
    object.metadata = ObjectMeta {
        name: object.metadata.name,
        namespace: Some(place.namespace.clone()),
        labels: Some(BTreeMap::from([
            (label::NAME.to_owned(), "pg-hardstorage".to_owned()),
            (label::MANAGED_BY.to_owned(), MANAGER.to_owned()),
            (label::REPOSITORY.to_owned(), place.repository.name.clone()),
        ])),
        owner_references: place.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    object.status = Some(of_record(record, &object, now));
    object
}

/// The Backup objects of a namespace that can be read.
pub async fn objects(context: &Context, namespace: &str) -> Result<Vec<Backup>> {
    selected(context, namespace, ListParams::default()).await
}

/// Those that belong to a schedule.
pub async fn objects_of_schedule(context: &Context, namespace: &str, schedule: &str) -> Result<Vec<Backup>> {
    let params = ListParams::default().labels(&format!("{}={schedule}", label::SCHEDULE));
    selected(context, namespace, params).await
}

/// Page by page: what is read of many at once is several times what stays of it.
async fn selected(context: &Context, namespace: &str, params: ListParams) -> Result<Vec<Backup>> {
    let api: Api<Guarded<Backup>> = Api::namespaced(context.client.clone(), namespace);
    let mut params = params.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let list = api.list(&params).await?;
        all.extend(list.items.into_iter().filter_map(|guard| guard.0.ok()));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok(all),
        }
    }
}

/// Carries out what [`changes`] found. It can be broken off at any point: the next look finds the rest.
pub async fn carry_out(context: &Context, changes: Changes) -> Result<()> {
    let making: Vec<_> = changes.make.iter().map(|object| make(context, object)).collect();
    stream::iter(making)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    for (object, status) in &changes.update {
        let before = serde_json::to_value(&object.status)?;
        let after = serde_json::to_value(status)?;
        match apply::write_status_of_seen(context, "Backup", object, &before, &after).await {
            Ok(_) => {}
            // Gone by now: nothing to say about it.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for object in &changes.remove {
        apply::delete(context, object).await?;
    }
    Ok::<(), Error>(())
}

async fn make(context: &Context, object: &Backup) -> Result<()> {
    let mut bare = object.clone();
    bare.status = None;
    if let apply::Made::Created(made) = apply::create_once(context, &bare).await? {
        // The generation is the API server's to give.
        let mut status = object.status.clone().unwrap_or_default();
        status.observed_generation = made.metadata.generation;
        for condition in &mut status.conditions {
            condition.observed_generation = made.metadata.generation;
        }
        let status = serde_json::to_value(status)?;
        apply::write_status_of_made(context, "Backup", &made, &status).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
