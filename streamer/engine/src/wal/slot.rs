//! The slot of a stream: made where it is missing, and made anew where the server has given it up.
//!
//! A slot that was invalidated keeps nothing, and nothing brings it back: PostgreSQL 18 lets nobody stream from it, older
//! versions let whoever asks begin where WAL may be gone. Whether that is so shows in two places: it has no position any
//! more (as one that was made without a reservation, which keeps as little), or the server refuses to stream from it. Then
//! it is dropped, which costs nobody anything, and made anew; what was lost meanwhile the way from the archive's end to
//! the new slot's position shows, as after every absence.

use hardstorage_replication::Connection;
use hardstorage_report::{Error, Lsn, Result, Severity, SlotHealth, code};
use hardstorage_repository::wal::Frontier;
use serde_json::json;
use tokio::time::Instant;

use super::stream::Streamer;

/// What this process knows of its slot from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SlotKnown {
    /// Nothing.
    #[default]
    Nothing,
    /// It has streamed from it.
    Streamed,
    /// The server would not stream from it.
    Refused,
    /// It was made anew, and has not served yet. It keeps WAL already: what else may fail before the first byte must not
    /// have it dropped, because each new one keeps less.
    Anew,
}

impl SlotKnown {
    /// Whether a slot is to be dropped that keeps WAL, or nothing.
    fn is_lost(self, keeps: bool) -> bool {
        !keeps || self == SlotKnown::Refused
    }

    /// What is known after the server would not stream from it, and whether to look again at once: not when it is the
    /// second time in a row.
    pub(super) fn refused(self) -> (SlotKnown, bool) {
        (SlotKnown::Refused, self != SlotKnown::Anew)
    }
}

impl Streamer {
    /// From where on the slot keeps WAL. There is one afterwards, unless the stream runs without.
    pub(super) async fn ensure_slot(&mut self, connection: &mut Connection) -> Result<Option<Lsn>> {
        let Some(slot) = self.plan.slot.clone() else {
            return Ok(None);
        };
        let mut state = connection.read_slot(&slot).await?;
        if let Some(known) = &state
            && self.slot_known.is_lost(known.restart_lsn.is_some())
        {
            self.give_up(connection, &slot).await?;
            self.slot_known = SlotKnown::Anew;
            state = None;
        }
        if state.is_none() {
            self.monitor.update(|status| status.slot_health = SlotHealth::Missing);
            match connection.create_slot(&slot, false, true).await {
                Ok(()) => self.tell_created(&slot),
                // Another process was faster; whether it also uses it shows at the start.
                Err(error) if error.is(code::replication::SLOT_EXISTS) => {}
                Err(error) => return Err(error),
            }
            state = connection.read_slot(&slot).await?;
        }
        if state.is_some() {
            self.monitor.update(|status| status.slot_health = SlotHealth::Inactive);
        }
        Ok(state.and_then(|state| state.restart_lsn))
    }

    fn tell_created(&self, slot: &str) {
        let mut body = json!({"slot": slot});
        if self.slot_known == SlotKnown::Streamed {
            body["message"] =
                "the slot from which this stream came is gone: it was dropped, or another server is the primary now"
                    .into();
            body["hint"] = "what that server has removed already is told as a gap; without one nothing is lost".into();
        }
        self.emit(Severity::Notice, "wal.slot.created", body);
    }

    /// Drops a slot that keeps nothing.
    async fn give_up(&mut self, connection: &mut Connection, slot: &str) -> Result<()> {
        self.monitor.update(|status| status.slot_health = SlotHealth::Lost);
        match connection.drop_slot(slot, false).await {
            Ok(()) => {}
            Err(error) if error.is(code::replication::SLOT_MISSING) => {}
            // Somebody streams from it: it keeps something soon.
            Err(error) => return Err(self.held_by_other(error)),
        }
        self.monitor.update(|status| status.slots_lost += 1);
        self.emit(Severity::Warning, "wal.slot.lost", json!({
            "slot": slot,
            "message": "the slot keeps no WAL: the server has invalidated it, or never reserved any; it is made anew",
            "hint": "max_slot_wal_keep_size and idle_replication_slot_timeout invalidate slots: give them more room, or alert on the stream long before",
        }));
        Ok(())
    }

    /// The slot keeps less than the archive lacks: what lies between, nobody holds.
    pub(super) fn tell_ahead(&self, slot_restart: Option<Lsn>, frontier: Option<&Frontier>) {
        let (Some(restart), Some(frontier)) = (slot_restart, frontier) else {
            return;
        };
        if frontier.ahead.is_none() || frontier.at >= restart {
            return;
        }
        self.emit(Severity::Notice, "wal.slot.ahead", json!({
            "slot": self.plan.slot,
            "slot_restart_lsn": restart,
            "archive_end_lsn": frontier.at,
            "message": "the slot keeps less than the archive lacks: the server is asked for the rest, and what it has removed is told as a gap",
            "hint": "wal_keep_size on every server of the cluster keeps WAL that no slot holds",
        }));
    }

    /// Takes note of why the server does not stream from the slot.
    pub(super) fn slot_refused(&mut self, error: Error) -> Error {
        if error.is(code::replication::SLOT_UNUSABLE) {
            self.monitor.update(|status| status.slot_health = SlotHealth::Lost);
        }
        self.held_by_other(error)
    }

    fn held_by_other(&mut self, error: Error) -> Error {
        if error.is(code::replication::SLOT_IN_USE) {
            self.slot_wanted_since.get_or_insert_with(Instant::now);
            self.monitor
                .update(|status| status.slot_health = SlotHealth::HeldByOther);
        }
        error
    }

    /// Bytes will flow, from the slot if there is one.
    pub(super) fn slot_serves(&mut self) {
        self.slot_wanted_since = None;
        if self.plan.slot.is_some() {
            self.slot_known = SlotKnown::Streamed;
            self.monitor.update(|status| status.slot_health = SlotHealth::Active);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_was_made_anew_is_dropped_again_only_when_it_keeps_nothing_or_is_refused() {
        use SlotKnown::{Anew, Nothing, Refused, Streamed};
        for known in [Nothing, Streamed, Anew] {
            assert!(known.is_lost(false) && !known.is_lost(true), "{known:?}");
        }
        assert!(Refused.is_lost(true) && Refused.is_lost(false));
        assert_eq!(Nothing.refused(), (Refused, true));
        assert_eq!(Streamed.refused(), (Refused, true));
        assert_eq!(
            Anew.refused(),
            (Refused, false),
            "with the patience of every other failure"
        );
    }
}
