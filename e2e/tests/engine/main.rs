//! What the engine does on the days that nobody wishes for: promotions, kills, gaps, damaged pages, wrong input. Each
//! test has servers and a repository of its own and speaks to the product through the command line alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod again;
mod backup;
mod bad_repository;
mod bad_server;
mod bad_words;
mod contiguous;
mod damage;
mod failover;
mod idle;
mod late;
mod moment;
mod proof;
mod recover;
mod recover_again;
mod refusals;
mod restore;
mod site;
mod stream;
mod verdict;
mod wal_in_target;
