//! What a person reads of a restore: the plan before it, and the summary after it.

use hardstorage_engine::restore::{RestorePlan, StopAt, both_zones};
use hardstorage_report::{ByteSize, DisabledSubscription, Recovered, RecoveryReport, RestoreReport};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::args::HandOverArg;

fn stop_words(stop: &StopAt, inclusive: bool) -> String {
    let suffix = if inclusive { "" } else { ", exclusive" };
    match stop {
        StopAt::Immediate => "recovery_target = 'immediate'".to_owned(),
        StopAt::EndOfArchive => "none: to the end of the archive".to_owned(),
        StopAt::Time(time) => format!("recovery_target_time = {time}{suffix}"),
        StopAt::Lsn(lsn) => format!("recovery_target_lsn = {lsn}{suffix}"),
        StopAt::Name(name) => format!("recovery_target_name = {name}"),
        StopAt::Xid(xid) => format!("recovery_target_xid = {xid}{suffix}"),
    }
}

/// What would be done, and what stands in the way.
pub(super) fn planned(plan: &RestorePlan, zone: &TimeZone) -> String {
    let time = |at: Timestamp| both_zones(at, zone);
    let mut out = format!(
        "Restore plan (preview only — no files written)\n\
             Backup:           {}\n\
             Deployment:       {}\n\
             Target:           {}\n\
             PostgreSQL:       {}\n\
             Cluster ID:       {}\n\
             Backup stop LSN:  {} (TLI {})\n\
             Backup stopped:   {}\n\
             Reaches:          {}\n\
             Recovery target:  {}\n\
             On reaching it:   {}\n\
             Recovery TLI:     {}\n\
             Recoverable:      {} to {}\n\
             Files:            {}\n\
             Total bytes:      {}\n\
             WAL to replay:    {} at most\n",
        plan.backup_id,
        plan.deployment,
        plan.target_dir.display(),
        plan.pg_version,
        plan.system_identifier,
        plan.stop_lsn,
        plan.timeline,
        time(plan.stopped_at),
        plan.reaches,
        stop_words(&plan.stop_at, plan.inclusive),
        plan.action.as_str(),
        plan.target_timeline,
        time(plan.reachable.from),
        time(plan.reachable.to),
        plan.file_count,
        ByteSize(plan.total_bytes),
        ByteSize(plan.wal_bytes),
    );
    for (oid, path) in &plan.tablespaces {
        out.push_str(&format!("Tablespace {oid}: {}\n", path.display()));
    }
    for note in &plan.warnings {
        out.push_str(&format!("Note:             {note}\n"));
    }
    if plan.problems.is_empty() {
        out.push_str("Pre-flight:       ✓ ready\n");
    } else {
        out.push_str(&format!("Pre-flight:       ✗ {} issue(s)\n", plan.problems.len()));
        for problem in &plan.problems {
            out.push_str(&format!(
                "  {}: {}\n    hint: {}\n",
                problem.code, problem.message, problem.hint
            ));
        }
    }
    out
}

/// What was done, and what comes next.
pub(super) fn restored(result: &RestoreReport, hand_over: HandOverArg) -> String {
    let course = &result.course;
    let mut out = format!(
        "✓ Restored {}\n\
         Target:           {}\n\
         Files:            {} ({} equal to PostgreSQL's own manifest)\n\
         Bytes written:    {}\n\
         Duration:         {:.1} s\n",
        course.backup_id,
        course.target_dir.display(),
        result.file_count,
        result.files_checked,
        ByteSize(result.bytes_written),
        result.duration_ms as f64 / 1000.0,
    );
    if result.reused_bytes > 0 {
        out.push_str(&format!(
            "Was there already: {}\nFetched:          {}\n",
            ByteSize(result.reused_bytes),
            ByteSize(result.fetched_bytes),
        ));
    }
    match &result.recovery {
        Some(done) => out.push_str(&recovered(done)),
        None => out.push_str(&format!(
            "Will reach:       {}\n\
             On reaching it:   {}\n",
            course.reaches, course.action,
        )),
    }
    if !result.neutralised.is_empty() {
        out.push_str(&format!("Neutralised:      {}\n", result.neutralised.join(", ")));
    }
    if let Some(verdict) = &result.verifybackup {
        out.push_str(&format!("pg_verifybackup:  {verdict}\n"));
    }
    for note in &course.warnings {
        out.push_str(&format!("Note:             {note}\n"));
    }
    let target = course.target_dir.display();
    out.push_str(&match hand_over {
        HandOverArg::Drill => format!("\nAsk it:  pg_hardstorage drill check --data {target}\n"),
        HandOverArg::Plain | HandOverArg::Cnpg | HandOverArg::Patroni => {
            format!("\nStart it:  pg_ctl -D {target} start\n")
        }
    });
    out
}

fn recovered(done: &RecoveryReport) -> String {
    let Recovered { lsn, time, timeline } = done.recovered;
    let time = time.map_or_else(String::new, |time| format!(", the last transaction of {time}"));
    let mut out = format!("Recovered to:     {lsn}{time}\nNew timeline:     {timeline}\n");
    for DisabledSubscription { database, name } in &done.disabled_subscriptions {
        out.push_str(&format!("Disabled:         subscription {name} of {database}\n"));
    }
    for change in &done.collation_changes {
        let version = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        out.push_str(&format!(
            "! The collation of {} was of version {}, here it is {}: REINDEX its indexes on text, then \
             ALTER DATABASE ... REFRESH COLLATION VERSION\n",
            change.database,
            version(&change.recorded),
            version(&change.actual),
        ));
    }
    out
}
