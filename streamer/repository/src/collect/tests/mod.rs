//! The collector against everybody else: rule by rule, killed at every call, and in a model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]

mod killed;
mod leftovers;
mod model;
mod model_store;
mod rules;
mod wal;
mod world;
