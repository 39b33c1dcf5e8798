//! What a collection of one deployment did, for people: of `repo gc` and of `rotate --collect`.

use hardstorage_report::{ByteSize, Result, Severity};
use hardstorage_repository::{
    CollectOptions, Collection, Deployment, Leftovers, Repository, Waits, collect, leftovers,
};
use serde_json::json;

use crate::app::App;

/// Collects, and tells what needs a person.
pub(crate) async fn run(app: &App, deployment: &Deployment, options: &CollectOptions) -> Result<Collection> {
    let done = collect(deployment, options).await?;
    for problem in &done.problems {
        let body = json!({"deployment": deployment.name(), "message": problem});
        app.tell(Severity::Warning, "gc.problem", body);
    }
    Ok(done)
}

/// Gives back what killed writers left in the repository; what stands against it is told, and is no failure.
pub(crate) async fn sweep(app: &App, repository: &Repository, options: &CollectOptions) -> Leftovers {
    let left = leftovers(repository, options).await;
    if let Some(note) = &left.note {
        app.tell(Severity::Info, "gc.leftovers_unknown", json!({"message": note}));
    }
    left
}

/// At most a line of each kind, and nothing when there is nothing to tell.
pub(crate) fn leftovers_text(left: &Leftovers) -> String {
    let mut out = String::new();
    if left.found.objects > 0 {
        out.push_str(&format!(
            "Killed writers left {}: {} unfinished file(s) or upload(s)\n",
            ByteSize(left.found.bytes),
            left.found.objects
        ));
    }
    if let Some(note) = &left.note {
        out.push_str(&format!("What killed writers left is not known: {note}\n"));
    }
    out
}

fn why(waits: Waits) -> &'static str {
    match waits {
        Waits::Undelete => "can still be undeleted",
        Waits::Held => "a hold protects it",
        Waits::LastWhole => "no other backup of the deployment is whole",
        Waits::Readers => "readers that can write no session may still read it, for 24 hours from its purge on",
        Waits::Pinned => "a running process reads it",
    }
}

/// One line, and one for each backup that changed or waits.
pub(crate) fn text(done: &Collection) -> String {
    let mut out = String::new();
    let wal = done.wal.values();
    let (segments, tails) = wal.fold((0, 0), |(segments, tails), wal| {
        (segments + wal.segments.objects, tails + wal.tails.objects)
    });
    out.push_str(&format!(
        "{}  {}: {} pack(s), {segments} WAL segment(s), {tails} tail(s), {} small object(s)\n",
        done.deployment,
        ByteSize(done.freed_bytes()),
        done.packs.objects,
        done.small
    ));
    for id in &done.released {
        out.push_str(&format!("[gone] {id}\n"));
    }
    for id in &done.voided {
        out.push_str(&format!("[void] {id}  its process ended before it committed\n"));
    }
    for id in &done.purged {
        out.push_str(&format!("[purge] {id}  can no longer be undeleted\n"));
    }
    for (id, waits) in &done.waiting {
        out.push_str(&format!("[wait] {id}  {}\n", why(*waits)));
    }
    for problem in &done.problems {
        out.push_str(&format!("✗ {problem}\n"));
    }
    out
}
