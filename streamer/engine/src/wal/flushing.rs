//! How what was received becomes durable before its segment is complete.

use hardstorage_report::Result;

use super::recorder::Recorder;

impl Recorder {
    /// Makes everything received durable, and finishes every segment that is complete.
    pub async fn flush(&mut self) -> Result<()> {
        while self.has_finishing() {
            self.settle().await?;
        }
        self.write_tail(true).await
    }

    /// Makes everything received durable. Segments that are complete are waited for only where their bytes lie nowhere
    /// else: that is what somebody waits for.
    pub async fn flush_received(&mut self) -> Result<()> {
        self.settle_before().await?;
        self.write_tail(true).await
    }

    /// The same for a flood, of which nobody waits for every part.
    pub(super) async fn flush_bulk(&mut self) -> Result<()> {
        self.settle_before().await?;
        self.write_tail(false).await
    }

    /// Waits until everything before the open segment is durable.
    async fn settle_before(&mut self) -> Result<()> {
        let begin = match &self.open {
            Some(open) => open.name.start(self.segment_size()),
            None => None,
        };
        let begin = begin.unwrap_or_else(|| self.received());
        while self.durable < begin && self.has_finishing() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Writes what the open segment holds behind its last tail. A journal is begun only for those who wait.
    pub(super) async fn write_tail(&mut self, waited_for: bool) -> Result<()> {
        let known = self.complete_up_to;
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.unflushed.is_empty() {
            return Ok(());
        }
        let mut facts = std::mem::take(&mut open.unflushed_facts);
        if let Some(known) = known {
            facts.note_complete(known);
        }
        let (from, parts) = (open.unflushed_from, &open.unflushed);
        let end = if self.journal && (waited_for || open.tails.has_journal()) {
            open.tails.append_parts(from, parts, facts).await?
        } else {
            open.tails.put_parts(from, parts, facts).await?
        };
        open.unflushed.clear();
        open.unflushed_length = 0;
        open.unflushed_from = end;
        self.own.wrote(open.name, self.streamer, known);
        // Never over a hole: a segment before this one that is not stored yet counts on its own.
        if self.durable >= from {
            self.durable = self.durable.max(end);
            self.marked_up_to = known;
        }
        self.tailed_up_to = known;
        Ok(())
    }

    /// On an idle server: makes durable *that nothing happened*, so that a time without any commit can be recovered to.
    pub async fn mark_idle(&mut self) -> Result<bool> {
        let caught_up = self.durable == self.received() && self.complete_up_to > self.marked_up_to;
        let (true, Some(known)) = (caught_up, self.complete_up_to) else {
            return Ok(false);
        };
        let end = self.received();
        if !self.mark.put(&self.archive, end, known).await? {
            return Ok(false);
        }
        self.marked_up_to = self.complete_up_to;
        Ok(true)
    }
}
