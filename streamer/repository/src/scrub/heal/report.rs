//! What was healed, and what could not be.

use hardstorage_report::DeploymentName;
use hardstorage_storage::Key;
use serde::{Deserialize, Serialize};

/// One object that is whole again, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Its name.
    pub object: String,
    /// What was wrong with it.
    pub reason: String,
    /// Its length.
    pub bytes: u64,
}

/// One object that is not whole, or of which nobody can say which one is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotHealed {
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// Why it was left as it is.
    pub because: String,
}

/// One run over one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealReport {
    /// The deployment.
    pub deployment: DeploymentName,
    /// Nothing is left that the copy could not make whole, and nothing differs.
    pub ok: bool,
    /// Nothing was written.
    pub dry_run: bool,
    /// Objects that were read here and are whole.
    pub whole: u64,
    /// What came back.
    pub healed: Vec<Healed>,
    /// What stays damaged.
    pub lost: Vec<NotHealed>,
    /// What is whole in both places, and not the same.
    pub differing: Vec<NotHealed>,
    /// What is whole here and damaged in the copy.
    pub damaged_in_copy: Vec<NotHealed>,
    /// Damage records that hold no more.
    pub records_removed: u64,
    /// Why the audit chain does not tell of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_recorded: Option<String>,
}

impl HealReport {
    pub(super) fn new(deployment: &DeploymentName, apply: bool) -> HealReport {
        HealReport {
            deployment: deployment.clone(),
            ok: true,
            dry_run: !apply,
            whole: 0,
            healed: Vec::new(),
            lost: Vec::new(),
            differing: Vec::new(),
            damaged_in_copy: Vec::new(),
            records_removed: 0,
            not_recorded: None,
        }
    }

    pub(super) fn healed(&mut self, key: &Key, reason: String, bytes: u64) {
        self.healed.push(Healed {
            object: key.to_string(),
            reason,
            bytes,
        });
    }

    pub(super) fn lost(&mut self, key: &Key, reason: String, because: &str) {
        self.ok = false;
        self.lost.push(not_healed(key, reason, because));
    }

    pub(super) fn differs(&mut self, key: &Key, reason: &str) {
        self.ok = false;
        let because = "nothing decides which of the two is right";
        self.differing.push(not_healed(key, reason.to_owned(), because));
    }

    pub(super) fn copy_is_damaged(&mut self, key: &Key, reason: String) {
        let because = "it is whole here: heal the copy from this repository";
        self.damaged_in_copy.push(not_healed(key, reason, because));
    }
}

fn not_healed(key: &Key, reason: String, because: &str) -> NotHealed {
    NotHealed {
        object: key.to_string(),
        reason,
        because: because.to_owned(),
    }
}
