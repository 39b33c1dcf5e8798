//! Every B-tree index, read by amcheck: many in one session, and one by one where something is wrong.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use hardstorage_report::{DrillCheck, Result};

use super::databases::{Database, Index};
use super::{Drill, check, shortened};
use crate::postgres::Reply;

/// Indexes that are read by one session.
const BATCH: usize = 32;
/// Damaged indexes that are named; the others are counted.
const NAMED: usize = 100;

impl Drill<'_> {
    /// Reads the indexes of all databases, for so long at most.
    pub(super) async fn read_indexes(&mut self, databases: &[Database], limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        for database in databases {
            self.told.expect(database.indexes.len());
        }
        for database in databases {
            let Some(schema) = &database.amcheck else {
                self.unchecked(database, database.indexes.len(), "amcheck is not in it");
                self.told.done(database.indexes.len());
                continue;
            };
            let began = Instant::now();
            let before = (self.damaged, self.report.indexes_checked);
            let mut left = database.indexes.len();
            for batch in database.indexes.chunks(BATCH) {
                left -= self.read_batch(database, schema, batch, end).await?;
                self.told.done(batch.len());
            }
            let why = format!("the time for indexes, {} s, was over", limit.as_secs());
            self.unchecked(database, left, &why);
            if self.damaged == before.0 && self.report.indexes_checked > before.1 {
                self.report.checks.push(check("indexes", &database.name, true, began));
            }
        }
        if self.damaged > NAMED {
            let note = format!("{} more indexes are damaged", self.damaged - NAMED);
            self.report.notes.push(note);
        }
        Ok(())
    }

    fn unchecked(&mut self, database: &Database, indexes: usize, why: &str) {
        if indexes > 0 {
            self.report.indexes_unchecked += indexes as u64;
            let note = format!("{indexes} B-tree indexes of {} were not read: {why}", database.name);
            self.report.notes.push(note);
        }
    }

    /// Reads some indexes; how many there was time for.
    async fn read_batch(&mut self, database: &Database, schema: &str, batch: &[Index], end: Instant) -> Result<usize> {
        match self.read_some(database, schema, batch, end).await? {
            Reply::First(_) => {
                self.report.indexes_checked += batch.len() as u64;
                return Ok(batch.len());
            }
            Reply::TimeIsOver => return Ok(0),
            Reply::Refused(_) => {}
        }
        let mut read = 0;
        for index in batch {
            let began = Instant::now();
            match self.read_some(database, schema, from_ref(index), end).await? {
                Reply::First(_) => {}
                Reply::TimeIsOver => break,
                Reply::Refused(words) => self.is_damaged(database, index, &words, began),
            }
            self.report.indexes_checked += 1;
            read += 1;
        }
        Ok(read)
    }

    fn is_damaged(&mut self, database: &Database, index: &Index, words: &str, began: Instant) {
        self.damaged += 1;
        if self.damaged <= NAMED {
            self.report.checks.push(DrillCheck {
                error: Some(shortened(words)),
                ..check(&format!("index {}", index.name), &database.name, false, began)
            });
        }
    }

    /// Reads these in one session.
    async fn read_some(&mut self, database: &Database, schema: &str, indexes: &[Index], end: Instant) -> Result<Reply> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Reply::TimeIsOver);
        }
        let oids: Vec<String> = indexes.iter().map(|index| index.oid.to_string()).collect();
        let statement = format!(
            "SELECT {schema}.bt_index_check(oid::regclass) FROM unnest('{{{}}}'::oid[]) AS oid",
            oids.join(",")
        );
        self.standby.try_ours(&database.name, &statement, left).await
    }
}
