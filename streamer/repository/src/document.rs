//! Small JSON objects in envelopes: created once, read back with their MAC checked before they are parsed.

use bytes::Bytes;
use hardstorage_codec::KeyedHash;
use hardstorage_report::{Error, Result, Retry, code};
use hardstorage_storage::{Created, DynStore, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{EnvelopeKind, open_envelope, seal_envelope};

/// Who made the object that now lies at the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Made {
    /// We did; perhaps by an earlier try whose answer was lost.
    Ours,
    /// Another process did: these are its bytes.
    Theirs(Bytes),
}

/// "Object `key` is not what it should be".
pub(crate) fn corrupt(key: &Key, what: impl std::fmt::Display) -> Error {
    Error::new(code::repository::OBJECT_CORRUPT, format!("object {key}: {what}"))
}

/// A MAC covers no name: an object from elsewhere in the repository would open as well, but says where it belongs.
pub(crate) fn must_be_itself(key: &Key, is_itself: bool) -> Result<()> {
    if is_itself {
        Ok(())
    } else {
        Err(corrupt(key, "it says that it is another object"))
    }
}

/// JSON in an envelope.
pub(crate) fn encode<T: Serialize>(kind: EnvelopeKind, mac: &KeyedHash, key: &Key, value: &T) -> Result<Bytes> {
    let payload =
        serde_json::to_vec(value).map_err(|error| corrupt(key, "it cannot be written as JSON").source(error))?;
    Ok(seal_envelope(kind, mac, &payload))
}

/// Checks the MAC, then parses.
pub(crate) fn decode<T: DeserializeOwned>(kind: EnvelopeKind, mac: &KeyedHash, key: &Key, stored: &Bytes) -> Result<T> {
    let payload = open_envelope(kind, mac, stored, key.as_str())?;
    parse(key, &payload)
}

/// Parses a payload.
pub(crate) fn parse<T: DeserializeOwned>(key: &Key, payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).map_err(|error| corrupt(key, "its JSON is not of the expected form").source(error))
}

/// Reads an object; `None` when it is not there.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &DynStore,
    kind: EnvelopeKind,
    mac: &KeyedHash,
    key: &Key,
) -> Result<Option<T>> {
    let stored = store.get(key).await?;
    stored.map(|stored| decode(kind, mac, key, &stored)).transpose()
}

/// Creates an object, or tells whose lies there. The caller calls `sync` before it relies on the name.
pub(crate) async fn create(store: &DynStore, key: &Key, bytes: &Bytes) -> Result<Made> {
    let failure = match store.put_new(key, bytes.clone()).await {
        Ok(Created::Created) => return Ok(Made::Ours),
        Ok(Created::Exists) => None,
        // The answer may be lost and the object there all the same.
        Err(error) => Some(error),
    };
    match (store.get(key).await, failure) {
        (Ok(Some(found)), _) if found == *bytes => Ok(Made::Ours),
        (Ok(Some(found)), None) => Ok(Made::Theirs(found)),
        (_, Some(error)) | (Err(error), None) => Err(error),
        (Ok(None), None) => {
            let message = format!("object {key} existed and was gone a moment later");
            Err(Error::new(code::storage::IO, message).retry(Retry::Now))
        }
    }
}
