//! The drills of a schedule: a Restore object for each, which does all the work, and what came of them.
//!
//! No CronJob is needed: a Restore is an object and no pod, and which moment it restores is chosen when it is made. Its name
//! follows from the time for which it is made, so that one that was begun before a crash is found and not begun twice.
//! The objects are owned by the schedule: they and what they make are thrown away by design.

mod build;
mod due;
mod past;
mod status;

use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::{BackupSchedule, Restore, ScheduledDrill};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::ObjectRef;

use crate::apply;
use crate::backup::target::{deployment, duration};
use crate::context::Context;
use crate::error::Result;
use crate::names::label;
use crate::repository::Refusal;
use crate::restore::is_over;
use due::{Facts, due};
use hardstorage_schedule::Plan;

pub use status::Drilled;

/// The schedule that has to look when one of its drills is over; how far it is, is no news.
pub fn of_drill(guard: &Guarded<Restore>) -> Option<ObjectRef<Guarded<BackupSchedule>>> {
    let restore = guard.0.as_ref().ok()?;
    if !restore.status.as_ref().is_some_and(is_over) {
        return None;
    }
    let name = restore.labels().get(label::SCHEDULE)?;
    Some(ObjectRef::new(name).within(&restore.namespace()?))
}

/// Begins what is due and removes what is past; what the status says of it. None where no drills are wanted.
pub async fn keep(context: &Context, schedule: &BackupSchedule) -> Result<Option<Drilled>> {
    let Some(wanted) = &schedule.spec.drill else {
        return Ok(None);
    };
    let (namespace, now) = (schedule.namespace().unwrap_or_default(), context.now());
    let before = schedule
        .status
        .as_ref()
        .and_then(|status| status.drill.clone())
        .unwrap_or_default();
    // Not the minute of its backups.
    let seed = format!("{namespace}/{}/drill", schedule.name_any());
    let plan = match Plan::new(wanted.schedule.as_str(), &schedule.spec.time_zone, &seed) {
        Ok(plan) if plan.next(now).is_some() => plan,
        Ok(_) => {
            return Ok(Some(Drilled::unplanned(
                before,
                format!("{} is a day that never comes", wanted.schedule),
            )));
        }
        Err(sentence) => return Ok(Some(Drilled::unplanned(before, sentence))),
    };
    let all = of_schedule(context, schedule, &namespace).await?;
    let mut drilled = Drilled::look(schedule, &plan, before, &all, now);
    let facts = Facts {
        since: drilled.since(),
        begun_for: drilled.begun_for(),
        running: all.iter().any(|restore| !restore.status.as_ref().is_some_and(is_over)),
        deadline: duration(Some(&schedule.spec.starting_deadline), Duration::from_hours(1)),
    };
    if let Some(moment) = due(&plan, &facts, now) {
        match begin(context, schedule, wanted, moment).await? {
            Ok(()) => drilled.begins(moment),
            Err(refusal) => drilled.waits(&refusal),
        }
    }
    for restore in past::past(&schedule.spec.history.clone().unwrap_or_default(), &all) {
        apply::delete(context, restore).await?;
    }
    Ok(Some(drilled))
}

async fn of_schedule(context: &Context, schedule: &BackupSchedule, namespace: &str) -> Result<Vec<Restore>> {
    let api: Api<Guarded<Restore>> = Api::namespaced(context.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{}={}", label::SCHEDULE, schedule.name_any()));
    let list = api.list(&params).await?;
    let readable = list.items.into_iter().filter_map(|guard| guard.0.ok());
    let uid = schedule.metadata.uid.as_ref();
    Ok(readable
        .filter(|restore| restore.owner_references().iter().any(|owner| Some(&owner.uid) == uid))
        .collect())
}

async fn begin(
    context: &Context,
    schedule: &BackupSchedule,
    wanted: &ScheduledDrill,
    due: Timestamp,
) -> Result<Result<(), Refusal>> {
    let namespace = schedule.namespace().unwrap_or_default();
    // Its server may be down, or gone: a drill needs the repository alone.
    let deployment = match deployment(context, &namespace, &schedule.spec.deployment_ref.name).await? {
        Ok(deployment) => deployment,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(restore) = build::restore(schedule, wanted, &deployment, due)? else {
        return Ok(Err(Refusal {
            reason: "NothingToDrill".to_owned(),
            message: "there is no backup yet that could be restored".to_owned(),
            hint: String::new(),
            waits: true,
        }));
    };
    match apply::create_once(context, &restore).await {
        Ok(_) => Ok(Ok(())),
        Err(error) => Ok(Err(Refusal::of_job(error)?)),
    }
}

#[cfg(test)]
mod tests;
