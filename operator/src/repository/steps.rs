//! What a reconcile does about a Repository, once it knows what to do.

use hardstorage_crds::condition::repository::{REACHABLE, RECOVERY_KEY_EXPORTED, WRITE_SAFE};
use hardstorage_crds::condition::{Condition, READY, STALLED};
use hardstorage_crds::{AccessMode, Repository, RepositoryRef, RepositoryStatus};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource as _, ResourceExt as _};

use super::access::in_namespace;
use super::build::{self, Entropy, Ground};
use super::decide::{Step, is_stored};
use super::fetch::Fetched;
use super::outcome::Run;
use super::resolve::ClaimFacts;
use super::share::{Signers, signer};
use super::verdict::Verdict;
use crate::apply;
use crate::backup::mirror::{self, Names, Place};
use crate::condition::Conditions;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job;
use crate::report::ServedCatalog;
use hardstorage_schedule::Plan;

/// One reconcile.
pub struct Steps<'a> {
    /// Shared.
    pub context: &'a Context,
    /// The object.
    pub repository: &'a Repository,
    /// What was found.
    pub found: &'a Fetched,
    /// Signing keys that are there.
    pub signers: &'a Signers,
}

impl Steps<'_> {
    /// Shows a catalogue that waits to be read as Backup objects, for the names that no Deployment shows.
    pub async fn show(&self, verdict: &Verdict) -> Result<Option<ServedCatalog>> {
        let Some(run) = &self.found.sync.last else {
            return Ok(None);
        };
        let stored = self
            .repository
            .status
            .as_ref()
            .and_then(|status| status.last_sync_time.clone());
        if *verdict != Verdict::Good
            || run.outcome.is_err()
            || run.pod.is_none()
            || is_stored(stored.map(|time| time.0), run)
        {
            return Ok(None);
        }
        let Some(catalog) = job::catalog(self.context, &run.job).await? else {
            return Ok(None);
        };
        let looked = self.found.probe.last.as_ref().and_then(|run| run.outcome.as_ref().ok());
        if looked.and_then(|seen| seen.id.as_ref()) != Some(&catalog.repository_id) {
            tracing::warn!(
                id = catalog.repository_id,
                "a catalogue of another repository is not shown"
            );
            return Ok(None);
        }
        let users = &self.found.users;
        let namespace = self.repository.namespace().unwrap_or_default();
        let records: Vec<_> = catalog
            .backups
            .iter()
            .filter(|record| !users.shown_elsewhere.contains(record.backup_id.deployment()))
            .cloned()
            .collect();
        let limit = self
            .repository
            .spec
            .catalog
            .clone()
            .unwrap_or_default()
            .max_backup_objects;
        let place = Place {
            namespace: namespace.clone(),
            repository: RepositoryRef {
                name: self.repository.name_any(),
                namespace: None,
            },
            names: Names::Except(users.shown_here.clone()),
            owner: self.repository.owner_ref(&()),
            limit: usize::try_from(limit).unwrap_or_default(),
        };
        let existing = mirror::objects(self.context, &namespace).await?;
        let changes = mirror::changes(&place, &records, &existing, self.context.now());
        mirror::carry_out(self.context, changes).await?;
        Ok(Some(catalog))
    }

    async fn tell(&self, warning: bool, reason: &str, note: &str) {
        let about: ObjectReference = self.repository.object_ref(&());
        self.context.tell(&about, warning, reason, note).await;
    }

    /// Lets pods go whose results are stored, and removes Jobs that are of no more use.
    pub async fn tidy(&self, after: &RepositoryStatus) -> Result<()> {
        let found = self.found;
        let stored = after.last_sync_time.as_ref().map(|time| time.0);
        let sync = found.sync.last.as_ref();
        let answering = [
            waits(found.probe.last.as_ref()),
            waits(found.init.last.as_ref()),
            waits(found.check.last.as_ref()),
            waits(sync.filter(|run| run.outcome.is_err() || is_stored(stored, run))),
        ];
        for job in answering.into_iter().flatten() {
            job::heard(self.context, job).await?;
        }
        let old = [&found.probe.old, &found.init.old, &found.sync.old, &found.check.old];
        for job in old.into_iter().flatten() {
            apply::delete(self.context, job).await?;
        }
        Ok(())
    }

    /// Keeps the CronJob of the checks as it should be. One whose schedule cannot be read stays as it is.
    pub async fn keep_checking(&self, verdict: &Verdict, after: &RepositoryStatus, plan: Option<&Plan>) -> Result<()> {
        let Some(plan) = plan.filter(|_| after.repository_id.is_some()) else {
            return Ok(());
        };
        let maintenance = self.repository.spec.maintenance.clone().unwrap_or_default();
        let rests = maintenance.suspend || verdict.stalls();
        if self.found.cron.as_ref().is_none_or(|cron| is_of(cron, self.repository)) {
            self.on_ground(async |ground| {
                let wanted = build::check(&ground, &plan.fields, rests);
                apply::apply_changed(self.context, self.found.cron.as_ref(), wanted).await?;
                Ok(())
            })
            .await?;
        }
        let writes = self.repository.spec.access_mode == AccessMode::ReadWrite;
        if *verdict == Verdict::Good && writes {
            let home = self.repository.namespace().unwrap_or_default();
            match signer(self.context, self.repository, &home, self.signers).await {
                // It has been there since the repository was created; catalogues are read all the same.
                Err(error) if error.is_forbidden() => self.key_forbidden("with a signing key").await,
                made => made?,
            }
        }
        Ok(())
    }

    async fn key_forbidden(&self, secret: &str) {
        let note = format!("the operator may not create Secret {secret}: give it the right to create Secrets");
        self.tell(true, "KeyForbidden", &note).await;
    }

    /// Lets the operator ask the pods of its Jobs, where network policies are wanted.
    pub async fn admit(&self) -> Result<()> {
        let settings = &self.context.settings;
        let Some(scraper) = settings.scraper_namespace.as_deref() else {
            return Ok(());
        };
        let home = self.repository.namespace().unwrap_or_default();
        let name = build::network_policy_name(&self.repository.name_any());
        let existing = apply::get::<NetworkPolicy>(self.context, &home, &name).await?;
        let wanted = build::network_policy(self.repository, &settings.namespace, scraper);
        apply::apply_changed(self.context, existing.as_ref(), wanted).await?;
        Ok(())
    }

    /// Takes a step. Keys come before the Job that needs them, and one that is there is used as it is.
    pub async fn take(&self, step: &Step) -> Result<()> {
        if let Step::Create { .. } = step {
            let home = self.repository.namespace().unwrap_or_default();
            // What was judged may be older than what we wrote ourselves: nothing is made where a repository was.
            let now = apply::get::<Repository>(self.context, &home, &self.repository.name_any()).await?;
            let known = |now: &Repository| now.status.as_ref().is_some_and(|status| status.repository_id.is_some());
            if now.is_none_or(|now| now.uid() != self.repository.uid() || known(&now)) {
                return Ok(());
            }
            let signing = build::signing(self.repository, &home, Entropy::draw()?);
            let kek = build::kek(self.repository, Entropy::draw()?);
            for secret in kek.into_iter().chain([signing]) {
                if let Err(error) = apply::create_once(self.context, &secret).await {
                    if error.is_forbidden() {
                        self.key_forbidden(&secret.name_any()).await;
                    }
                    return Err(error);
                }
            }
        }
        self.on_ground(async |ground| {
            if let Some(job) = build::job(&ground, step, self.context.now()) {
                apply::create_once(self.context, &job).await?;
            }
            Ok(())
        })
        .await
    }

    async fn on_ground<T>(&self, work: impl AsyncFnOnce(Ground<'_>) -> Result<T, Error>) -> Result<T> {
        let home = self.repository.namespace().unwrap_or_default();
        let shared = self.found.claim == ClaimFacts::Shared;
        let access = in_namespace(self.repository, &home, shared);
        let image = self.context.settings.engine();
        work(Ground {
            repository: self.repository,
            access: &access,
            image: &image,
            surroundings: self.found.home.surroundings,
        })
        .await
    }
}

/// Whether a child is this very object's.
pub fn is_of<K: kube::Resource>(child: &K, repository: &Repository) -> bool {
    let owners = child.meta().owner_references.iter().flatten();
    owners
        .into_iter()
        .any(|owner| Some(&owner.uid) == repository.metadata.uid.as_ref())
}

/// What keeps the checks from being scheduled, besides their schedule: the name is somebody else's. One of an object that was
/// deleted and made again is on its way out.
pub fn taken(cron: Option<&CronJob>, repository: &Repository) -> Option<String> {
    let cron = cron.filter(|cron| !is_of(*cron, repository) && cron.metadata.deletion_timestamp.is_none())?;
    Some(format!(
        "there is a CronJob {} that is not ours, so the repository is not checked: give it, or this object, another name",
        cron.name_any()
    ))
}

/// The Job of a run whose pod waits to be told that its result is stored.
fn waits<T>(run: Option<&Run<T>>) -> Option<&k8s_openapi::api::batch::v1::Job> {
    run.filter(|run| run.pod.is_some()).map(|run| &run.job)
}

/// Writes the status, and an event for what has changed.
pub async fn write(
    context: &Context,
    repository: &Repository,
    before: &RepositoryStatus,
    after: &RepositoryStatus,
    conditions: &Conditions,
) -> Result<()> {
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    if !apply::write_status_of_seen(context, "Repository", repository, &before, &after).await? {
        return Ok(());
    }
    let about: ObjectReference = repository.object_ref(&());
    for condition in conditions.changed() {
        if let Some(warning) = tells(condition, conditions) {
            context
                .tell(&about, warning, &condition.reason, &condition.message)
                .await;
        }
    }
    Ok(())
}

/// What does not go away by itself and yet stops nobody that uses the Repository.
const STAYS: [&str; 2] = ["Forbidden", "MaintenanceInvalid"];

/// Whether a change is worth an event, and whether that is a warning.
fn tells(condition: &Condition, all: &Conditions) -> Option<bool> {
    let stalled = all.get(STALLED).is_some_and(|stalled| stalled.status == "True");
    match (condition.type_.as_str(), condition.status.as_str()) {
        (READY, "True") => Some(false),
        (READY, "False")
            if stalled || STAYS.contains(&condition.reason.as_str()) || condition.reason.ends_with("Failed") =>
        {
            Some(true)
        }
        (REACHABLE | RECOVERY_KEY_EXPORTED | WRITE_SAFE, "False") => Some(true),
        _ => None,
    }
}
