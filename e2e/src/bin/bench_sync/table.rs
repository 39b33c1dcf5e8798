//! The results as a table in Markdown: the median of each with its range, and the ratio to the peer.

use std::collections::BTreeMap;
use std::fmt;

/// With whom the others are compared.
pub const PEER: &str = "pg_receivewal --synchronous";

/// All measurements.
#[derive(Debug, Default)]
pub struct Table {
    tps: BTreeMap<(String, u64), Vec<f64>>,
}

impl Table {
    /// Adds one.
    pub fn add(&mut self, who: &str, clients: u64, tps: f64) {
        self.tps.entry((who.to_owned(), clients)).or_default().push(tps);
    }

    fn median(&self, who: &str, clients: u64) -> Option<f64> {
        let mut values = self.tps.get(&(who.to_owned(), clients))?.clone();
        values.sort_by(f64::total_cmp);
        let (below, above) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(f64::midpoint(*below, *above))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| clients | receiver | tps, median [range] | ms a commit | ratio to {PEER} |"
        )?;
        writeln!(f, "|---|---|---|---|---|")?;
        let mut rows: Vec<_> = self.tps.iter().collect();
        rows.sort_by_key(|((who, clients), _)| (*clients, who.starts_with("pg_hardstorage"), who.len(), who.clone()));
        for ((who, clients), values) in rows {
            let median = self.median(who, *clients).unwrap_or_default();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let ratio = self.median(PEER, *clients).map_or(0.0, |peer| median / peer);
            writeln!(
                f,
                "| {clients} | {who} | {median:.0} [{least:.0}-{most:.0}] | {:.2} | {ratio:.2} |",
                *clients as f64 * 1000.0 / median
            )?;
        }
        Ok(())
    }
}
