//! One connection of a stream: who answered, from where to go on, and what is written down when that WAL is gone.
//!
//! Every connection finds all of this out anew: an address can change its meaning, storage can be set back, and others
//! write into the archive meanwhile.

use hardstorage_replication::{Connection, StreamOptions};
use hardstorage_report::{Error, Lsn, Result, Severity, SlotHealth, code};
use hardstorage_repository::wal::{ArchiveEnd, Frontier, LsnRange, Stored, WalArchive};
use serde_json::json;
use tokio::time::Instant;

use super::histories::capture_histories;
use super::lineage::{choose_lineage, lineages};
use super::recorder::Recorder;
use super::route::{Leg, Route, RouteFacts, plan_route};
use super::stream::{Ended, StopSignal, Streamer};
use crate::preflight::{self, FindingSeverity};
use crate::progress::ProgressMeter;
use crate::source::{ServerIdentity, identify, server_facts};

/// A backlog of more segments than this is worth a progress line.
const CATCH_UP: u64 = 4;

impl Streamer {
    pub(super) async fn attempt(&mut self, stop: &StopSignal) -> Result<Ended> {
        let mut connection = self.plan.source.connect().await?;
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
        let slot_restart = self.ensure_slot(&mut connection).await?;
        let frontier = archive.frontier(server.timeline, slot_restart, &self.asked).await?;
        refuse_rolled_back(&mut connection, &archive, &server).await?;
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
        let route = plan_route(&facts)?;
        let Some(leg) = route.legs.first().copied() else {
            return Ok(Ended::TimelineSwitched);
        };
        self.flowed = false;
        match self.stream_leg(connection, &archive, &server, &route, leg, stop).await {
            // After bytes have flowed the hole begins elsewhere: the next connection finds out where.
            Err(error) if error.is(code::replication::WAL_REMOVED) && !self.flowed => match &frontier {
                Some(frontier) => self.record_gap(&archive, &facts, frontier, error).await,
                None => Err(error),
            },
            other => other,
        }
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
                *self
                    .lineage
                    .insert(choose_lineage(&known, server.system_id, self.plan.accept_new_system)?)
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
        let findings = preflight::judge(&facts);
        let fatal = findings
            .iter()
            .find(|finding| finding.severity == FindingSeverity::Fatal);
        if self.attempt == 1 || fatal.is_some() {
            for finding in &findings {
                self.sink.emit(finding.event().deployment(self.deployment.name()));
            }
        }
        match fatal {
            Some(finding) => Err(preflight::failure(finding)),
            None => Ok(()),
        }
    }

    async fn ensure_slot(&mut self, connection: &mut Connection) -> Result<Option<Lsn>> {
        let Some(slot) = self.plan.slot.clone() else {
            return Ok(None);
        };
        if connection.read_slot(&slot).await?.is_none() {
            match connection.create_slot(&slot, false, true).await {
                Ok(()) => self.emit(Severity::Notice, "wal.slot.created", json!({"slot": slot})),
                // Another process was faster; whether it also uses it shows at the start.
                Err(error) if error.is(code::replication::SLOT_EXISTS) => {}
                Err(error) => return Err(error),
            }
        }
        let state = connection.read_slot(&slot).await?;
        self.monitor.update(|status| {
            status.slot_health = if state.is_some() {
                SlotHealth::Inactive
            } else {
                SlotHealth::Missing
            };
        });
        Ok(state.and_then(|state| state.restart_lsn))
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
        if stored == Stored::Stored {
            self.monitor.update(|status| status.gaps += 1);
            self.emit(Severity::Critical, "wal.gap", json!({
                "gap_start_lsn": from,
                "gap_end_lsn": to,
                "gap_bytes": from.bytes_until(to),
                "message": "WAL is lost: nothing between these positions can be recovered, and no recovery passes the gap",
                "hint": "take a new backup now",
            }));
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
            ..StreamOptions::default()
        };
        let recorder = Recorder::begin(archive.clone(), self.own.clone(), leg.timeline, leg.start).await?;
        let started = connection
            .start_replication(self.plan.slot.as_deref(), leg.start, leg.timeline, options)
            .await;
        let stream = match started {
            Ok(stream) => stream,
            Err(error) => {
                if error.is(code::replication::SLOT_IN_USE) {
                    self.slot_wanted_since.get_or_insert_with(Instant::now);
                    self.monitor
                        .update(|status| status.slot_health = SlotHealth::HeldByOther);
                }
                return Err(error);
            }
        };
        self.slot_wanted_since = None;
        let slot = self.plan.slot.is_some();
        self.monitor.update(|status| {
            status.timeline = Some(leg.timeline);
            status.durable_lsn = Some(leg.start);
            if slot {
                status.slot_health = SlotHealth::Active;
            }
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

/// A primary whose own timeline ends before what the archive has of it has lost WAL that was acknowledged: its storage was
/// set back, or it is a copy. What it writes from now on is another history under the same name.
async fn refuse_rolled_back(connection: &mut Connection, archive: &WalArchive, server: &ServerIdentity) -> Result<()> {
    let archived = archive.farthest(server.timeline).await?;
    let Some(archived) = archived.filter(|_| !server.standby) else {
        return Ok(());
    };
    // Asked after the archive was looked at: other streams may have stored what was written since.
    let now = connection.identify().await?;
    if now.timeline == server.timeline && archived > now.flush_lsn {
        return Err(Error::new(
            code::repository::SPLIT_BRAIN,
            format!(
                "the archive has timeline {} up to {archived}, the server itself ends at {}",
                server.timeline, now.flush_lsn
            ),
        )
        .hint("the server was set back, or is a copy of the one that was archived: find out which one is alive"));
    }
    Ok(())
}
