//! The results: for each contest a table in Markdown, medians with their range, and the ratio to the first peer.

use std::fmt;

use crate::sample::Sample;

const MIB: f64 = 1_048_576.0;

type Named<T> = Vec<(&'static str, T)>;

/// All samples, in the order in which contests and contestants first appeared.
#[derive(Default)]
pub struct Table {
    contests: Named<Named<Vec<Sample>>>,
}

impl Table {
    /// Adds one run, and shows it.
    pub fn add(&mut self, contest: &'static str, who: &'static str, sample: Sample) {
        eprintln!(
            "  {contest}: {who}: {:.2} s, {:.2} CPU s, others {:.2} cores",
            sample.wall, sample.cpu, sample.others
        );
        let rows = entry(&mut self.contests, contest);
        entry(rows, who).push(sample);
    }
}

fn entry<'a, T: Default>(list: &'a mut Named<T>, name: &'static str) -> &'a mut T {
    let at = list.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        list.push((name, T::default()));
        list.len() - 1
    });
    &mut list[at].1
}

/// The median, the smallest and the largest.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

fn spread(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Spread {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Spread {
        median,
        least: values[0],
        most: values[values.len() - 1],
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2}-{:.2}]", self.median, self.least, self.most)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (contest, rows) in &self.contests {
            writeln!(f, "\n### {contest}")?;
            writeln!(
                f,
                "| program | wall s | CPU s | server CPU s | peak RSS one / tree, MiB | added MB | tps | other work, cores | ratio of wall, or of tps | ratio of CPU |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
            // The first of these that took part is the one to compare with. Ours stands on top.
            let named = |name: &&str| rows.iter().find(|(who, _)| who == name).map(|(_, samples)| samples);
            let peer = [
                "no receiver",
                "pgBackRest",
                "pg_receivewal",
                "pg_basebackup",
                "cp",
                "the first backup",
                "a directory",
            ]
            .iter()
            .find_map(named);
            let (ours, others): (Vec<_>, Vec<_>) = rows.iter().partition(|(who, _)| *who == "pg_hardstorage");
            for (who, samples) in ours.into_iter().chain(others) {
                row(f, who, samples, peer)?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, who: &str, samples: &[Sample], peer: Option<&Vec<Sample>>) -> fmt::Result {
    let median = |of: fn(&Sample) -> f64| spread(samples, of).median;
    let ratio = |of: fn(&Sample) -> f64| match peer.map(|peer| spread(peer, of).median) {
        Some(theirs) if theirs > 0.0 => format!("{:.2}", median(of) / theirs),
        _ => "-".to_owned(),
    };
    let some = |value: f64, text: String| if value > 0.0 { text } else { "-".to_owned() };
    let (added, tps) = (median(|s| s.added as f64) / 1e6, spread(samples, |s| s.tps));
    writeln!(
        f,
        "| {who} | {} | {} | {:.2} | {:.0} / {:.0} | {} | {} | {:.2} | {} | {} |",
        spread(samples, |s| s.wall),
        spread(samples, |s| s.cpu),
        median(|s| s.server),
        median(|s| s.largest as f64) / MIB,
        median(|s| s.tree as f64) / MIB,
        some(added, format!("{added:.1}")),
        some(tps.median, tps.to_string()),
        median(|s| s.others),
        ratio(if tps.median > 0.0 { |s| s.tps } else { |s| s.wall }),
        ratio(|s| s.cpu),
    )
}
