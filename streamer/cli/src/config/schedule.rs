//! How the agent works, as `agent:` in the configuration says it. What it does not say has a default in the agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::TaskName;
use crate::args::parse_duration;

/// How the agent works.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentConfig {
    /// Where it serves metrics and status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// So many backups at once, and so many other tasks beside them. Streams are never counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_concurrent: Option<NonZeroU16>,
    /// What was missed while the agent was away is made up within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<Span>,
    /// A task that takes longer is ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<TaskName, Span>,
}

impl AgentConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == AgentConfig::default()
    }

    /// Lays another one over this, field by field.
    pub(super) fn merge(&mut self, over: AgentConfig) {
        let AgentConfig {
            listen,
            max_concurrent,
            spread,
            limits,
        } = over;
        self.listen = listen.or(self.listen);
        self.max_concurrent = max_concurrent.or(self.max_concurrent);
        self.spread = spread.or(self.spread);
        self.limits.extend(limits);
    }
}

/// A time span, written as on the command line: `90s`, `30m`, `12h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        parse_duration(&text).map(Span)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        format!("{}ms", span.0.as_millis())
    }
}
