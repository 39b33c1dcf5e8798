//! The short form of `make torture`, which draws a new seed for each round: two known rounds, of which `SEED` in the
//! environment replaces the second.

use hardstorage_e2e::torture::{Length, Promoter, round};

#[test]
fn nothing_acknowledged_is_lost_in_a_known_round() {
    round(2, 18, Promoter::Test, Length::Short);
}

#[test]
fn nothing_acknowledged_is_lost_in_another_round() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    round(seed.unwrap_or(72_125_526), 18, Promoter::Test, Length::Short);
}

#[test]
fn nothing_acknowledged_is_lost_when_patroni_promotes() {
    round(1, 18, Promoter::Patroni, Length::Short);
}
