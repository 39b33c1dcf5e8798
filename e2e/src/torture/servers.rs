//! The servers of a world: a pair that the test itself promotes, or a group that Patroni looks after.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::group::Group;
use super::ledger::State;
use super::nodes::Nodes;

/// Who promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promoter {
    /// The test.
    Test,
    /// Patroni.
    Patroni,
}

/// One of the two.
#[derive(Debug)]
pub enum Servers {
    /// Two.
    Pair(Box<Nodes>),
    /// Three, and etcd.
    Group(Group),
}

impl Servers {
    /// Makes the table; in a synchronous world the stream has to run.
    pub fn create(&self) {
        match self {
            Servers::Pair(nodes) => nodes.create(),
            Servers::Group(group) => group.create(),
        }
    }

    /// Where writers find a primary.
    pub fn sockets(&self) -> &Arc<Mutex<Vec<PathBuf>>> {
        match self {
            Servers::Pair(nodes) => nodes.sockets(),
            Servers::Group(group) => group.sockets(),
        }
    }

    /// Leads to the one that is the primary.
    pub fn connection(&self) -> String {
        match self {
            Servers::Pair(nodes) => nodes.connection(),
            Servers::Group(group) => group.connection(),
        }
    }

    /// Waits until they are in order; what a stream must have, and of which timeline, before another one may take over: of
    /// what is older, nobody would have anything.
    pub fn oldest(&self) -> (u32, u64) {
        match self {
            Servers::Pair(nodes) => nodes.oldest(),
            Servers::Group(group) => group.settle(),
        }
    }

    /// All of them are gone in one instant.
    pub fn lose(&mut self) {
        match self {
            Servers::Pair(nodes) => nodes.lose(),
            Servers::Group(group) => group.lose(),
        }
    }

    /// What the table holds.
    pub fn state(&self) -> State {
        match self {
            Servers::Pair(nodes) => nodes.state(),
            Servers::Group(group) => group.state(),
        }
    }

    /// The end of what is flushed, and its timeline, when they are in order.
    pub fn end(&self) -> (u32, u64) {
        match self {
            Servers::Pair(nodes) => nodes.end(),
            Servers::Group(group) => group.settle(),
        }
    }
}
