//! `make torture`: rounds of the ledger test until the time is over, PostgreSQL 15 to 18 in turn, each promoted by the test
//! itself and then by Patroni. `SEED` repeats one round, with `MAJOR` and `PROMOTER` for another than the one that comes first.
#![allow(clippy::print_stdout, reason = "a program for the one who runs it")]

use std::str::FromStr;
use std::time::{Duration, Instant};

use hardstorage_e2e::torture::{Dice, Length, Promoter, Tally, round};

const MAJORS: [u16; 4] = [15, 16, 17, 18];
const PROMOTERS: [Promoter; 2] = [Promoter::Test, Promoter::Patroni];

fn main() {
    let minutes = number("MINUTES").unwrap_or(10);
    let only: Option<u64> = number("SEED");
    let major: Option<u16> = number("MAJOR");
    let promoter = promoter();
    let begun = Instant::now();
    let mut tallies = Vec::new();
    for turn in 0.. {
        let seed = only.unwrap_or_else(Dice::fresh_seed);
        let major = major.unwrap_or(MAJORS[turn / PROMOTERS.len() % MAJORS.len()]);
        let promoter = promoter.unwrap_or(PROMOTERS[turn % PROMOTERS.len()]);
        tallies.push(round(seed, major, promoter, Length::Long));
        if only.is_some() || begun.elapsed() >= Duration::from_mins(minutes) {
            break;
        }
    }
    for tally in &tallies {
        println!("{tally}");
    }
    let title = format!("{} rounds in {} minutes", tallies.len(), begun.elapsed().as_secs() / 60);
    println!("{}", Tally::sum(&title, &tallies));
}

fn promoter() -> Option<Promoter> {
    let name = std::env::var("PROMOTER").ok().filter(|value| !value.is_empty())?;
    let promoter = match name.as_str() {
        "test" => Some(Promoter::Test),
        "patroni" => Some(Promoter::Patroni),
        _ => None,
    };
    assert!(promoter.is_some(), "PROMOTER is test or patroni, not {name}");
    promoter
}

fn number<N: FromStr>(name: &str) -> Option<N> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    let number = value.parse().ok();
    assert!(number.is_some(), "{name} is not a number: {value}");
    number
}
