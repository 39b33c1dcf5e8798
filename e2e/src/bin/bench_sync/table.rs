//! The results as a table in Markdown: the median of each with its range, and the ratio to the peer, of the medians and of the
//! pairs that each round makes. A shared machine changes more between rounds than within one, so the pairs tell more where
//! there are many.

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

    /// The mean of the ratios to the peer within each round, and its standard error; `None` for fewer than two rounds.
    fn pairs(&self, who: &str, clients: u64) -> Option<(f64, f64)> {
        let of = |who: &str| self.tps.get(&(who.to_owned(), clients));
        let ratios: Vec<f64> = of(who)?.iter().zip(of(PEER)?).map(|(ours, peer)| ours / peer).collect();
        if ratios.len() < 2 {
            return None;
        }
        let rounds = ratios.len() as f64;
        let mean = ratios.iter().sum::<f64>() / rounds;
        let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (rounds - 1.0);
        Some((mean, (variance / rounds).sqrt()))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| clients | receiver | tps, median [range] | ms a commit | ratio to {PEER} | the same in pairs |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let mut rows: Vec<_> = self.tps.iter().collect();
        rows.sort_by_key(|((who, clients), _)| (*clients, who.starts_with("pg_hardstorage"), who.len(), who.clone()));
        for ((who, clients), values) in rows {
            let median = self.median(who, *clients).unwrap_or_default();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let ratio = self.median(PEER, *clients).map_or(0.0, |peer| median / peer);
            let pairs = self.pairs(who, *clients);
            let pairs = pairs.map_or_else(String::new, |(mean, error)| format!("{mean:.3} ± {error:.3}"));
            writeln!(
                f,
                "| {clients} | {who} | {median:.0} [{least:.0}-{most:.0}] | {:.2} | {ratio:.2} | {pairs} |",
                *clients as f64 * 1000.0 / median
            )?;
        }
        Ok(())
    }
}
