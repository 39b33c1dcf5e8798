//! Every object key of the repository, in one place: nothing else builds one from text.

mod id;
mod wal;

use hardstorage_report::{BackupId, DeploymentName};
use hardstorage_storage::{Key, KeyError};

pub use id::{Lineage, WriterId};
pub(crate) use wal::{JOURNAL, named_gap};
pub use wal::{
    aux, aux_folder, gap, gaps_folder, history, journal, lineage_folder, segment, segments_folder, tail, tails_folder,
    timelines_folder, wal_folder,
};

use crate::{Month, PackId};

// Every part below is either a literal, a validated name, or made of hex digits and dashes: `Key::new` can refuse
// none of them but by length, and names are bounded so that it does not.
fn key(text: String) -> Key {
    match Key::new(text) {
        Ok(key) => key,
        Err(KeyError(text)) => unreachable!("a layout key is always valid: {text}"),
    }
}

/// `HARDSTORAGE`.
pub fn descriptor() -> Key {
    key("HARDSTORAGE".into())
}

/// `config/`.
pub const CONFIG_FOLDER: &str = "config/";

/// `config/<seq>.json`.
pub fn config(sequence: u32) -> Key {
    key(format!("{CONFIG_FOLDER}{sequence:08x}.json"))
}

/// `keys/<deployment>/`.
pub fn keys_folder(name: &DeploymentName) -> String {
    format!("keys/{name}/")
}

/// `keys/<deployment>/<number>/<generation>.json`.
pub fn wrapped_key(name: &DeploymentName, number: u32, generation: u16) -> Key {
    key(format!("keys/{name}/{number}/{generation:04x}.json"))
}

/// `signers/<deployment>/`.
pub fn signers_folder(name: &DeploymentName) -> String {
    format!("signers/{name}/")
}

/// `signers/<deployment>/<fingerprint>.json`.
pub fn signer(name: &DeploymentName, fingerprint: &str) -> Key {
    key(format!("signers/{name}/{fingerprint}.json"))
}

/// The object of one generation of a signer: the first is [`signer`], later ones (made when the KEK is rotated, since
/// nothing is ever overwritten) are `signers/<deployment>/<fingerprint>-<generation>.json`.
pub fn signer_generation(name: &DeploymentName, fingerprint: &str, generation: u16) -> Key {
    if generation <= 1 {
        signer(name, fingerprint)
    } else {
        key(format!("signers/{name}/{fingerprint}-{generation:04x}.json"))
    }
}

/// `probe/`: what `repo init` races on; holds nothing afterwards.
pub const PROBE_FOLDER: &str = "probe/";

/// `probe/<32 hex>`.
pub fn probe(random: [u8; 16]) -> Key {
    key(format!("{PROBE_FOLDER}{}", hex::encode(random)))
}

/// The number in `<folder><8 hex>.json`.
pub fn numbered(folder: &str, key: &Key) -> Option<u32> {
    let digits = key.as_str().strip_prefix(folder)?.strip_suffix(".json")?;
    fixed_hex(digits, 8)
}

/// Exactly `length` lower-case hex digits.
pub(crate) fn fixed_hex(digits: &str, length: usize) -> Option<u32> {
    let well_formed =
        digits.len() == length && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    well_formed.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// `packs/<deployment>/`.
pub fn packs_folder(name: &DeploymentName) -> String {
    format!("packs/{name}/")
}

/// `packs/<deployment>/<writer>/<seq>`.
pub fn pack(name: &DeploymentName, writer: &WriterId, sequence: u32) -> Key {
    key(format!("packs/{name}/{writer}/{sequence:08x}"))
}

/// The pack of a key below [`packs_folder`].
pub fn pack_id(folder: &str, key: &Key) -> Option<PackId> {
    let (writer, sequence) = key.as_str().strip_prefix(folder)?.split_once('/')?;
    Some(PackId {
        writer: WriterId::from_hex(writer)?,
        sequence: fixed_hex(sequence, 8)?,
    })
}

/// `manifests/`.
pub const MANIFESTS_FOLDER: &str = "manifests/";

/// `manifests/<deployment>/`.
pub fn manifests_folder(name: &DeploymentName) -> String {
    format!("{MANIFESTS_FOLDER}{name}/")
}

/// `manifests/<deployment>/<backup>/manifest.json`.
pub fn manifest(name: &DeploymentName, backup: &BackupId) -> Key {
    key(format!("manifests/{name}/{backup}/manifest.json"))
}

/// `manifests/<deployment>/<backup>/state/`.
pub fn state_folder(name: &DeploymentName, backup: &BackupId) -> String {
    format!("manifests/{name}/{backup}/state/")
}

/// `manifests/<deployment>/<backup>/state/<seq>.json`.
pub fn state(name: &DeploymentName, backup: &BackupId, sequence: u32) -> Key {
    key(format!("manifests/{name}/{backup}/state/{sequence:08x}.json"))
}

/// `manifests/<deployment>/<backup>/gone/<writer>.json`: what remains of a backup that was collected.
pub fn gone(name: &DeploymentName, backup: &BackupId, writer: &WriterId) -> Key {
    key(format!("manifests/{name}/{backup}/gone/{writer}.json"))
}

/// The writer in `gone/<writer>.json`, as it stands behind a backup's folder.
pub(crate) fn gone_writer(rest: &str) -> Option<WriterId> {
    WriterId::from_hex(rest.strip_prefix("gone/")?.strip_suffix(".json")?)
}

/// `sessions/<deployment>/`.
pub fn sessions_folder(name: &DeploymentName) -> String {
    format!("sessions/{name}/")
}

/// `sessions/<deployment>/<writer>/<seq>.json`.
pub fn session(name: &DeploymentName, writer: &WriterId, sequence: u32) -> Key {
    key(format!("sessions/{name}/{writer}/{sequence:08x}.json"))
}

/// `sessions/<deployment>/<writer>/progress/<seq>.json`.
pub fn progress(name: &DeploymentName, writer: &WriterId, sequence: u32) -> Key {
    key(format!("sessions/{name}/{writer}/progress/{sequence:08x}.json"))
}

/// Writer and number of the progress of a backup, of a key below [`sessions_folder`].
pub fn progress_object(folder: &str, key: &Key) -> Option<(WriterId, u32)> {
    let (writer, file) = key.as_str().strip_prefix(folder)?.split_once("/progress/")?;
    Some((WriterId::from_hex(writer)?, fixed_hex(file.strip_suffix(".json")?, 8)?))
}

/// `damage/<deployment>/`.
pub fn damage_folder(name: &DeploymentName) -> String {
    format!("damage/{name}/")
}

/// Pack and frame of a key below [`damage_folder`].
pub fn damaged_frame(folder: &str, key: &Key) -> Option<(PackId, u32)> {
    let mut parts = key.as_str().strip_prefix(folder)?.strip_suffix(".json")?.split('-');
    let (writer, sequence, frame) = (parts.next()?, parts.next()?, parts.next()?);
    let pack = PackId {
        writer: WriterId::from_hex(writer)?,
        sequence: fixed_hex(sequence, 8)?,
    };
    parts.next().is_none().then_some(())?;
    Some((pack, fixed_hex(frame, 8)?))
}

/// Writer and number of a session's object below [`sessions_folder`].
pub fn session_object(folder: &str, key: &Key) -> Option<(WriterId, u32)> {
    let (writer, file) = key.as_str().strip_prefix(folder)?.split_once('/')?;
    Some((WriterId::from_hex(writer)?, fixed_hex(file.strip_suffix(".json")?, 8)?))
}

/// `damage/<deployment>/<writer>-<pack seq>-<frame>.json`.
pub fn damage(name: &DeploymentName, writer: &WriterId, sequence: u32, frame: u32) -> Key {
    key(format!("damage/{name}/{writer}-{sequence:08x}-{frame:08x}.json"))
}

/// `scrub/<deployment>/`.
pub fn scrub_folder(name: &DeploymentName) -> String {
    format!("scrub/{name}/")
}

/// `scrub/<deployment>/<seq>.json`.
pub fn scrub(name: &DeploymentName, sequence: u32) -> Key {
    key(format!("scrub/{name}/{sequence:08x}.json"))
}

/// Where good bytes lie while the object that they are to replace is removed.
pub const HEAL_FOLDER: &str = "heal/";

/// The name of good bytes that are to replace an object.
pub fn healing(object: &Key) -> Key {
    key(format!("{HEAL_FOLDER}{object}"))
}

/// The object that good bytes are to replace.
pub fn healed(side: &Key) -> Option<Key> {
    Key::new(side.as_str().strip_prefix(HEAL_FOLDER)?).ok()
}

/// `audit/<deployment>/`.
pub fn audit_folder(name: &DeploymentName) -> String {
    format!("{AUDIT_FOLDER}{name}/")
}

/// `audit/`.
pub const AUDIT_FOLDER: &str = "audit/";

/// `audit/<deployment>/<yyyymm>/<seq>.json`.
pub fn audit(name: &DeploymentName, month: Month, sequence: u64) -> Key {
    key(format!("{AUDIT_FOLDER}{name}/{month}/{sequence:016x}.json"))
}

/// Folder and number of a record's object below [`audit_folder`].
pub fn audit_object(folder: &str, key: &Key) -> Option<(Month, u64)> {
    let (month, file) = key.as_str().strip_prefix(folder)?.split_once('/')?;
    Some((Month::parse(month)?, fixed_hex64(file.strip_suffix(".json")?)?))
}

/// Exactly sixteen lower-case hex digits.
fn fixed_hex64(digits: &str) -> Option<u64> {
    let (high, low) = digits.split_at_checked(8)?;
    Some(u64::from(fixed_hex(high, 8)?) << 32 | u64::from(fixed_hex(low, 8)?))
}

/// `audit/<deployment>/anchors/`.
pub fn receipts_folder(name: &DeploymentName) -> String {
    format!("{AUDIT_FOLDER}{name}/anchors/")
}

/// `audit/<deployment>/anchors/<seq>-<nonce>.json`.
pub fn receipt(name: &DeploymentName, sequence: u64, nonce: [u8; 8]) -> Key {
    key(format!(
        "{}{sequence:016x}-{}.json",
        receipts_folder(name),
        hex::encode(nonce)
    ))
}

/// `anchors/<repository>/<deployment>/`: anchors of another repository's deployment.
pub fn foreign_anchors(repository_id: [u8; 16], name: &DeploymentName) -> String {
    format!("anchors/{}/{name}/", hex::encode(repository_id))
}

/// `anchors/<repository>/<deployment>/<seq>-<first half of the head's hash>.json`.
pub fn foreign_anchor(repository_id: [u8; 16], name: &DeploymentName, sequence: u64, head: &[u8; 32]) -> Key {
    let folder = foreign_anchors(repository_id, name);
    key(format!("{folder}{sequence:016x}-{}.json", hex::encode(&head[..16])))
}

#[cfg(test)]
mod tests;
