//! Real Patroni with a real etcd, as processes of this machine: what decides in its own way who is the primary.
//!
//! A [`Member`] is Patroni and the PostgreSQL that it runs, on an address of its own with the usual ports, under a keeper
//! that starts Patroni again as a service manager does. Nothing here tells Patroni what to do but by its REST interface.

mod etcd;
mod member;

pub use self::etcd::Etcd;
pub use self::member::{Member, Recipe};
