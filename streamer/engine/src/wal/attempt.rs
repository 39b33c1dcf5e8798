//! One connection of a stream: who answered, from where to go on, and what is written down when that WAL is gone.
//!
//! Every connection finds all of this out anew: an address can change its meaning, storage can be set back, and others
//! write into the archive meanwhile.

use std::time::Duration;

use hardstorage_replication::{Connection, Host, StreamOptions};
use hardstorage_report::{Error, Kind, Result, Severity, code};
use hardstorage_repository::wal::{ArchiveEnd, Frontier, LsnRange, Stored, WalArchive};
use hardstorage_repository::{AuditAction, AuditEvent};
use serde_json::json;

use super::histories::capture_histories;
use super::lineage::{choose_lineage, is_another_cluster, lineages, system_accepted};
use super::recorder::Recorder;
use super::route::{Leg, Route, RouteFacts, plan_route};
use super::stale::refuse_stale;
use super::stream::{Ended, StopSignal, Streamer};
use crate::audit;
use crate::preflight::{self, FindingSeverity};
use crate::progress::ProgressMeter;
use crate::source::{ServerIdentity, identify, server_facts};

/// A backlog of more segments than this is worth a progress line.
const CATCH_UP: u64 = 4;
/// Where no commit waits, what a busy server sends within such a time is taken together: little beside the shortest
/// flush interval, and the stream leaves more of the machine to the server.
const LINGER: Duration = Duration::from_millis(20);

impl Streamer {
    pub(super) async fn attempt(&mut self, stop: &StopSignal) -> Result<Ended> {
        let source = &self.plan.source;
        let (mut connection, host) = source.connect_avoiding(self.old_primary.as_ref()).await?;
        self.monitor.update(|status| status.connections += 1);
        let server = identify(&mut connection).await?;
        if server.standby && !self.plan.allow_standby {
            return Err(Error::new(
                code::engine::SOURCE_IS_STANDBY,
                format!("the server ({}) is a standby", self.plan.source.redacted()),
            ));
        }
        let archive = self.archive(&server).await?;
        if self.plan.preflight {
            self.look_at(&mut connection).await?;
        }
        let ancestors = capture_histories(&mut connection, &archive, server.timeline, self.sink.as_ref()).await?;
        match refuse_stale(&mut connection, &archive, &server).await {
            Err(error) if error.kind() == Kind::Conflict => return self.another_than(host, error),
            looked => looked?,
        }
        self.name_to_patroni(server.system_id).await?;
        let slot_restart = self.ensure_slot(&mut connection).await?;
        let frontier = archive.frontier(server.timeline, slot_restart, &self.asked).await?;
        if let Some(frontier) = &frontier {
            archive.confirm(&frontier.trusted).await?;
        }
        let facts = RouteFacts {
            current: server.timeline,
            ancestors: &ancestors,
            frontier: frontier.as_ref().map(|frontier| ArchiveEnd {
                at: frontier.at,
                timeline: frontier.timeline,
            }),
            newest_archived: archive.timelines().await?.into_iter().max(),
            slot_restart,
            server_flush: server.flush_lsn,
            size: server.wal_segment_size,
        };
        self.tell_ahead(slot_restart, frontier.as_ref());
        let route = match plan_route(&facts) {
            Ok(route) => route,
            Err(error) => return self.another_than(host, error),
        };
        let Some(leg) = route.legs.first().copied() else {
            return Ok(Ended::TimelineSwitched);
        };
        (self.heard, self.flowed) = (false, false);
        match self.stream_leg(connection, &archive, &server, &route, leg, stop).await {
            // After bytes have flowed the hole begins elsewhere: the next connection finds out where.
            Err(error) if error.is(code::replication::WAL_REMOVED) && !self.flowed => match &frontier {
                Some(frontier) => self.record_gap(&archive, &facts, frontier, error).await,
                None => Err(error),
            },
            Err(error) if error.is(code::replication::SLOT_UNUSABLE) && !self.flowed => {
                let (known, at_once) = self.slot_known.refused();
                self.slot_known = known;
                if at_once { Ok(Ended::SlotLost) } else { Err(error) }
            }
            other => other,
        }
    }

    /// An old primary in a list of several is no reason to end: the new one is most likely in it. Where there was none, and
    /// nothing ever flowed, somebody who looks should be told.
    fn another_than(&mut self, host: Host, error: Error) -> Result<Ended> {
        let in_vain = self.old_primary.as_ref() == Some(&host);
        let given_up = in_vain && !self.started && !self.plan.persistent;
        if given_up || !self.plan.source.has_a_choice()? {
            return Err(error);
        }
        self.old_primary = Some(host);
        Ok(Ended::OldPrimary(error))
    }

    /// The archive of the cluster that answered. Checked on every connection: an address can change its meaning.
    async fn archive(&mut self, server: &ServerIdentity) -> Result<WalArchive> {
        // Also of one that is refused: whoever asks the stream has to learn which cluster it is.
        self.monitor.update(|status| status.system_id = Some(server.system_id));
        let lineage = match self.lineage {
            Some(lineage) if lineage.system_id == server.system_id => lineage,
            Some(other) => {
                return Err(Error::new(
                    code::repository::SYSTEM_MISMATCH,
                    format!(
                        "the server is now the cluster {}, it was {}",
                        server.system_id, other.system_id
                    ),
                ));
            }
            None => {
                let known = lineages(&self.deployment).await?;
                let chosen = choose_lineage(&known, server.system_id, self.plan.accept_new_system)?;
                if is_another_cluster(&known, chosen) {
                    let event = system_accepted(chosen, self.plan.run_id.clone());
                    audit::record(&self.deployment, &event, self.sink.as_ref()).await;
                }
                *self.lineage.insert(chosen)
            }
        };
        Ok(WalArchive::new(
            self.deployment.clone(),
            lineage,
            server.wal_segment_size,
        ))
    }

    async fn look_at(&mut self, connection: &mut Connection) -> Result<()> {
        let name = self.plan.source.application_name().to_owned();
        let facts = server_facts(connection, &name, self.plan.slot.as_deref()).await?;
        let facts = facts.synchronous(self.plan.synchronous);
        let findings = preflight::judge(&facts);
        let fatal = findings
            .iter()
            .find(|finding| finding.severity == FindingSeverity::Fatal);
        let waiting = preflight::synchronous_findings(&facts);
        let changed = self.plan.synchronous && self.waiting.as_ref() != Some(&waiting);
        self.waiting = Some(waiting);
        if self.attempt == 1 || fatal.is_some() || changed {
            for finding in &findings {
                self.sink.emit(finding.event().deployment(self.deployment.name()));
            }
        }
        match fatal {
            Some(finding) => Err(preflight::failure(finding)),
            None => Ok(()),
        }
    }

    /// The server has said that it no longer has what the archive lacks.
    async fn record_gap(
        &mut self,
        archive: &WalArchive,
        facts: &RouteFacts<'_>,
        frontier: &Frontier,
        error: Error,
    ) -> Result<Ended> {
        let from = frontier.at;
        let oldest = facts.slot_restart.unwrap_or(facts.server_flush);
        let to = frontier.ahead.unwrap_or_else(|| oldest.segment_start(facts.size));
        if to <= from {
            return Err(error.context(format!(
                "the server has removed WAL from {from} on, although its slot keeps {oldest}"
            )));
        }
        let evidence = json!({
            "slot": self.plan.slot,
            "slot_restart_lsn": facts.slot_restart,
            "server_flush_lsn": facts.server_flush,
            "server_timeline": facts.current,
            "answer": error.to_string(),
        });
        let reason = "the server had removed this WAL before it was streamed";
        self.asked.push(LsnRange { from, to });
        let stored = archive.put_gap(frontier.timeline, (from, to), reason, evidence).await?;
        // A backup may have found the same hole before. Whether its slot was lost or nobody streamed at all tells whether
        // that is a loss; a record that a server was asked for is not met here.
        let told = match stored {
            Stored::Stored => false,
            Stored::AlreadyThere => {
                let gaps = archive.gaps().await?.records;
                let same = gaps
                    .iter()
                    .find(|gap| gap.timeline == frontier.timeline && gap.range() == LsnRange { from, to });
                same.is_some_and(|gap| gap.is_between_backups() || gap.was_asked_for())
            }
        };
        if !told {
            self.monitor.update(|status| status.gaps += 1);
            self.emit(Severity::Critical, "wal.gap", json!({
                "gap_start_lsn": from,
                "gap_end_lsn": to,
                "gap_bytes": from.bytes_until(to),
                "message": "WAL is lost: nothing between these positions can be recovered, and no recovery passes the gap",
                "hint": "take a new backup now",
            }));
        }
        if stored == Stored::Stored {
            let event = AuditEvent::new(AuditAction::GapRecorded, self.plan.run_id.clone())
                .reason(reason)
                .body(json!({"timeline": frontier.timeline, "from": from, "to": to}));
            audit::record(&self.deployment, &event, self.sink.as_ref()).await;
        }
        Ok(Ended::GapRecorded)
    }

    async fn stream_leg(
        &mut self,
        connection: Connection,
        archive: &WalArchive,
        server: &ServerIdentity,
        route: &Route,
        leg: Leg,
        stop: &StopSignal,
    ) -> Result<Ended> {
        let options = StreamOptions {
            status_interval: self.plan.status_interval,
            receive_timeout: self.plan.receive_timeout,
            linger: if self.plan.synchronous { Duration::ZERO } else { LINGER },
            ..StreamOptions::default()
        };
        finish_left_behind(archive, leg).await;
        let mut recorder = Recorder::begin(archive.clone(), self.own.clone(), leg.timeline, leg.start).await?;
        if self.plan.synchronous {
            recorder = recorder.waited_for();
        }
        let started = connection
            .start_replication(self.plan.slot.as_deref(), leg.start, leg.timeline, options)
            .await;
        let stream = match started {
            Ok(stream) => stream,
            Err(error) => return Err(self.slot_refused(error)),
        };
        self.slot_serves();
        self.monitor.update(|status| {
            status.timeline = Some(leg.timeline);
            status.durable_lsn = Some(leg.start);
        });
        self.emit(
            Severity::Info,
            "wal.stream.starting",
            json!({
                "attempt": self.attempt,
                "slot": self.plan.slot,
                "start_lsn": leg.start,
                "end_lsn": leg.end,
                "resume_strategy": route.strategy,
                "last_lsn_in_repo": route.frontier,
                "system_id": server.system_id,
                "status_interval": format!("{}s", self.plan.status_interval.as_secs_f64()),
                "encryption": self.deployment.key().seals(),
            }),
        );
        let backlog = leg.start.bytes_until(leg.end.unwrap_or(server.flush_lsn));
        // Below that a live line would only flicker.
        let catching_up = backlog > CATCH_UP * server.wal_segment_size.bytes();
        let meter = catching_up.then(|| ProgressMeter::new("wal.stream.progress", self.sink.clone(), Some(backlog)));
        self.follow(stream, recorder, server, leg, meter, stop).await
    }
}

/// Segments before a leg of which tails hold everything: whoever wrote those died before it had finished the segment. They
/// are read as they are, so a failure keeps nobody from streaming.
async fn finish_left_behind(archive: &WalArchive, leg: Leg) {
    let finished = async {
        for segment in archive.segments_with_tails(leg.timeline).await? {
            if segment
                .start(archive.segment_size())
                .is_some_and(|start| start < leg.start)
            {
                archive.finish_from_tails(segment).await?;
            }
        }
        Ok::<_, Error>(())
    };
    match finished.await {
        Ok(()) => {}
        // Somebody else is finishing it, and removes its tails.
        Err(error) if error.is(code::storage::OBJECT) => {}
        Err(error) => tracing::warn!(%error, "a segment that tails hold is not finished"),
    }
}
