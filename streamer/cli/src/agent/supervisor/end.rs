//! The end of the agent, and of all that it has started.

use std::collections::BTreeSet;

use hardstorage_report::{DeploymentName, Severity};
use serde_json::json;

use super::{LAST, REAPED, Stopped, Supervisor};
use crate::agent::child::Child;
use crate::agent::stream::Stream;
use crate::signals::Stop;

impl Supervisor<'_> {
    /// Ends every child: streams make durable what they have, then a limit, or a second signal, kills.
    pub(super) async fn end(mut self, stop: &Stop) -> Stopped {
        self.tell(Severity::Notice, "agent.stopping", None, json!({}));
        self.queue.clear();
        self.children().for_each(|(_, child)| child.stop());
        let mut killed = BTreeSet::new();
        let gone = async |this: &mut Supervisor<'_>, killed: &mut BTreeSet<DeploymentName>| {
            while this.children().next().is_some() {
                if let Some((key, end)) = this.ends.1.recv().await {
                    if end.killed {
                        killed.insert(key.0.clone());
                    }
                    this.ended(key, end);
                }
            }
        };
        tokio::select! {
            () = gone(&mut self, &mut killed) => {}
            () = stop.kill.cancelled() => {}
            () = tokio::time::sleep(LAST) => {}
        }
        killed.extend(self.children().map(|(name, _)| name.clone()));
        self.children().for_each(|(_, child)| child.kill());
        // One that the kernel holds goes when the kernel lets go of it.
        let _ = tokio::time::timeout(REAPED, gone(&mut self, &mut killed)).await;
        if let Err(error) = self.book.save() {
            let body = json!({"code": error.code().as_str(), "message": error.to_string()});
            self.tell(Severity::Error, "agent.state.not_saved", None, body);
        }
        Stopped {
            clean_stop: killed.is_empty(),
            killed,
        }
    }

    fn children(&self) -> impl Iterator<Item = (&DeploymentName, &Child)> {
        self.cared.iter().flat_map(|(name, cared)| {
            let tasks = cared.running.values().map(|running| &running.child);
            let all = tasks
                .chain(&cared.look)
                .chain(cared.stream.as_ref().and_then(Stream::child));
            all.map(move |child| (name, child))
        })
    }
}
