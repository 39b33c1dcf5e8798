//! How a chain stands, told by a few small requests however long it is.

use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;

use super::chain::{AuditLog, ChainHead};
use super::receipt::Receipt;
use crate::document::corrupt;
use crate::layout;
use crate::listing::Objects;

/// How many records there are, and how many of them an anchor has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditStanding {
    /// The number of the last record.
    pub events: u64,
    /// The receipt of the newest head that was anchored.
    pub anchored: Option<Receipt>,
    /// Records behind it.
    pub unanchored: u64,
    /// When the oldest of these was written.
    pub oldest_unanchored: Option<Timestamp>,
}

impl AuditLog {
    /// Looks. It proves nothing: that is `verify`. But that a chain ends before what was anchored is told.
    pub async fn standing(&self) -> Result<AuditStanding> {
        // The receipt first: what is recorded and anchored meanwhile is not missing.
        let anchored = self.last_receipt().await?;
        let events = self.newest().await?.map_or(0, |(_, sequence)| sequence);
        let seen = anchored.as_ref().map_or(0, |receipt| receipt.sequence);
        if let Some(receipt) = anchored.as_ref().filter(|_| seen > events) {
            return Err(self.cut_off(events, receipt));
        }
        let oldest_unanchored = if events > seen {
            self.first_behind(anchored.as_ref()).await?
        } else {
            None
        };
        Ok(AuditStanding {
            events,
            unanchored: events - seen,
            anchored,
            oldest_unanchored,
        })
    }

    fn cut_off(&self, events: u64, receipt: &Receipt) -> Error {
        let (name, seen, at) = (self.deployment.name(), receipt.sequence, receipt.at);
        let message = format!(
            "the audit chain of {name} ends at record {events}, and {seen} were anchored at {at}: it was cut off"
        );
        Error::new(code::repository::AUDIT_BROKEN, message)
    }

    /// The head, durable, where it can be read and no receipt has seen more: whoever anchors a chain that was cut off
    /// would call it whole.
    pub async fn anchorable(&self) -> Result<Option<ChainHead>> {
        let receipt = self.last_receipt().await?;
        let head = self.head().await?;
        let events = head.as_ref().map_or(0, |head| head.sequence);
        if let Some(receipt) = receipt.filter(|receipt| receipt.sequence > events) {
            return Err(self.cut_off(events, &receipt));
        }
        match head {
            Some(ChainHead { record: Err(error), .. }) => {
                let message = format!(
                    "the last record of the audit chain of {}: {error}",
                    self.deployment.name()
                );
                Err(Error::new(code::repository::AUDIT_BROKEN, message))
            }
            Some(head) => {
                self.confirm(&head).await?;
                Ok(Some(head))
            }
            None => Ok(None),
        }
    }

    async fn first_behind(&self, receipt: Option<&Receipt>) -> Result<Option<Timestamp>> {
        let name = self.deployment.name();
        let folder = layout::audit_folder(name);
        let after = receipt.map(|receipt| layout::audit(name, receipt.month, receipt.sequence).to_string());
        let mut objects = Objects::under(self.deployment.store(), folder.clone()).after(after);
        while let Some(object) = objects.next().await? {
            let Some(found) = layout::audit_object(&folder, &object.key) else {
                continue;
            };
            let stored = self.deployment.store().get(&object.key).await?;
            let stored = stored.ok_or_else(|| corrupt(&object.key, "listed, but not there"))?;
            return self.decode(found, &object.key, &stored).map(|record| Some(record.at));
        }
        Ok(None)
    }
}
