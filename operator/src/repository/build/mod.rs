//! The children of a Repository, one kind a file. Pure.
//!
//! Jobs and the CronJob go with their Repository; they hold nothing. Secrets with keys have no owner, ever: only their
//! labels say where they come from.

mod check;
mod jobs;
mod keys;
mod network_policy;

use std::collections::BTreeMap;

use hardstorage_crds::Repository;
use kube::ResourceExt as _;

use crate::access::RepositoryAccess;
use crate::names::{Role, label, own_labels};
use crate::pod::{DefaultResources, EnginePod, Image, Life, Surroundings};

pub use check::{check, check_name};
pub use jobs::job;
pub use keys::{Entropy, kek, kek_name, signing};
pub use network_policy::{network_policy, network_policy_name};

/// What all of them are built from.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The Repository.
    pub repository: &'a Repository,
    /// What its own pods need.
    pub access: &'a RepositoryAccess,
    /// The engine.
    pub image: &'a Image,
    /// Where they run.
    pub surroundings: Surroundings,
}

fn labels(repository: &Repository, role: Role) -> BTreeMap<String, String> {
    let mut labels = own_labels(role);
    labels.insert(label::REPOSITORY.to_owned(), repository.name_any());
    labels
}

fn pod<'a>(ground: &Ground<'a>, role: Role, command: &[&str], linger: u32) -> EnginePod<'a> {
    let mut command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    command.insert(2, ground.access.engine_url());
    EnginePod {
        command,
        labels: labels(ground.repository, role),
        image: ground.image.clone(),
        life: Life::Once { linger },
        run_id: None,
        repository: Some(ground.access),
        // The signing key is in a repository from its first day.
        signs: role == Role::Init,
        source: None,
        snapshot: None,
        data: None,
        resources: None,
        default_resources: if role == Role::Check {
            DefaultResources::BACKUP
        } else {
            DefaultResources::LOOK
        },
        template: None,
        surroundings: ground.surroundings,
    }
}

#[cfg(test)]
mod tests;
