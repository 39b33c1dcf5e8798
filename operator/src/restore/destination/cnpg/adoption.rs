//! Whether CloudNativePG has taken over what was restored.

use serde_json::Value;

/// The phase of a Cluster that is well.
const HEALTHY: &str = "Cluster in healthy state";

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// Not there yet; in CloudNativePG's words.
    Waiting {
        /// What it says.
        words: String,
        /// Whether an instance serves what was restored: the others are copied from it, which takes as long as it takes.
        serves: bool,
    },
    /// Every instance is ready.
    Adopted,
}

/// Judges a Cluster by its status. Its phase alone says little: one without instances is called healthy too.
pub fn adoption(cluster: &Value) -> Adoption {
    let number = |path: &str| cluster.pointer(path).and_then(Value::as_i64);
    let text = |path: &str| {
        cluster
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let wanted = number("/spec/instances").unwrap_or(1);
    let ready = number("/status/readyInstances").unwrap_or(0);
    let phase = text("/status/phase");
    if phase == Some(HEALTHY) && ready >= wanted && text("/status/currentPrimary").is_some() {
        return Adoption::Adopted;
    }
    let said = match (phase, text("/status/phaseReason")) {
        (None, _) => "CloudNativePG has not looked at it yet".to_owned(),
        (Some(phase), None) => phase.to_owned(),
        (Some(phase), Some(reason)) => format!("{phase}: {reason}"),
    };
    Adoption::Waiting {
        words: format!("{ready} of {wanted} instances are ready; {said}"),
        serves: ready > 0,
    }
}
