//! What a container asks for and may take: the user's words, and ours where there are none. Pure.
//!
//! The API server refuses a pod that asks for more than it may take. So what the user says of one side moves our word on the
//! other: a limit below our request lowers it, and a request above our limit raises that.

use std::collections::BTreeMap;

use hardstorage_crds::Resources;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::DefaultResources;

/// Both together.
pub(super) fn requirements(defaults: DefaultResources, wanted: Option<&Resources>) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    let wanted = wanted.cloned().unwrap_or_default();
    let (asked, allowed) = (wanted.requests.unwrap_or_default(), wanted.limits.unwrap_or_default());
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), quantity(defaults.cpu)),
        ("memory".to_owned(), quantity(defaults.memory)),
    ]);
    let mut limits = BTreeMap::from([("memory".to_owned(), quantity(defaults.memory_limit))]);
    for (name, request) in &mut requests {
        if let Some(limit) = allowed.get(name).filter(|limit| is_less(limit, request)) {
            request.clone_from(limit);
        }
    }
    for (name, limit) in &mut limits {
        if let Some(request) = asked.get(name).filter(|request| is_less(limit, request)) {
            limit.clone_from(request);
        }
    }
    requests.extend(asked);
    limits.extend(allowed);
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        ..ResourceRequirements::default()
    }
}

/// Whether one is less than the other. What does not read as a quantity is for the API server to refuse.
fn is_less(one: &Quantity, other: &Quantity) -> bool {
    amount(&one.0)
        .zip(amount(&other.0))
        .is_some_and(|(one, other)| one < other)
}

/// `100m`, `0.5`, `64Mi`, `2G`, `1e9`.
pub fn amount(text: &str) -> Option<f64> {
    if let Ok(plain) = text.parse() {
        return Some(plain);
    }
    let (number, suffix) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let power = |suffixes: &[&str]| suffixes.iter().position(|known| *known == suffix);
    let factor = if let Some(power) = power(&["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]) {
        1024f64.powi(power as i32 + 1)
    } else {
        1000f64.powi(power(&["n", "u", "m", "", "k", "M", "G", "T", "P", "E"])? as i32 - 3)
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn built(wanted: Value) -> Value {
        let wanted: Resources = serde_json::from_value(wanted).unwrap();
        serde_json::to_value(requirements(DefaultResources::BACKUP, Some(&wanted))).unwrap()
    }

    #[test]
    fn nothing_is_asked_for_that_may_not_be_taken() {
        let usual = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}});
        assert_eq!(built(json!({})), usual);
        let low = built(json!({"limits": {"memory": "64M", "cpu": "0.05"}}));
        assert_eq!(low["requests"], json!({"cpu": "0.05", "memory": "64M"}));
        let high = built(json!({"requests": {"memory": "1Gi", "cpu": "2"}}));
        assert_eq!(high["limits"], json!({"memory": "1Gi"}));
        let roomy = built(json!({"limits": {"memory": "4Gi", "cpu": "1"}}));
        assert_eq!(roomy["requests"], usual["requests"]);
        // What the user says on both sides is the user's.
        let own = json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}});
        assert_eq!(built(own.clone())["limits"], own["limits"]);
        assert_eq!(built(own)["requests"]["memory"], "2Gi");
    }

    #[test]
    fn quantities_are_compared_whatever_their_suffix() {
        let cases = [
            ("100m", "0.2"),
            ("1e6", "1Mi"),
            ("999k", "1M"),
            ("1G", "1Gi"),
            ("900u", "1m"),
        ];
        for (less, more) in cases {
            let (less, more) = (Quantity(less.into()), Quantity(more.into()));
            assert!(is_less(&less, &more) && !is_less(&more, &less), "{less:?} {more:?}");
        }
        assert!(!is_less(&Quantity("much".into()), &Quantity("1".into())));
    }
}
