//! Every object key of the repository, in one place: nothing else builds one from text.

use std::fmt;

use hardstorage_report::{BackupId, DeploymentName, Lsn, SegmentName, SystemId, Timeline};
use hardstorage_storage::{Key, KeyError};

use crate::{Month, PackId};

/// The random id of one process attempt; part of the names and keys of all that it writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId([u8; 16]);

impl WriterId {
    /// From sixteen random bytes.
    pub fn new(bytes: [u8; 16]) -> WriterId {
        WriterId(bytes)
    }

    /// From 32 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<WriterId> {
        let mut bytes = [0u8; 16];
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(WriterId(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for WriterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for WriterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        WriterId::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a writer id has 32 lower-case hex digits"))
    }
}

/// One life of one cluster: its system identifier, and how often its storage was set back under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Lineage {
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// 1 for the first life; raised only by an explicit act.
    pub incarnation: u16,
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:04x}", self.system_id.0, self.incarnation)
    }
}

impl Lineage {
    /// Reads the folder name under `wal/<deployment>/`.
    pub fn from_folder(text: &str) -> Option<Lineage> {
        let (system, incarnation) = text.split_once('-')?;
        let hex =
            |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex(system, 16) || !hex(incarnation, 4) {
            return None;
        }
        let system_id = SystemId(u64::from_str_radix(system, 16).ok()?);
        Some(Lineage {
            system_id,
            incarnation: u16::from_str_radix(incarnation, 16).ok()?,
        })
    }
}

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

/// `wal/<deployment>/`.
pub fn wal_folder(name: &DeploymentName) -> String {
    format!("wal/{name}/")
}

/// `wal/<deployment>/<lineage>/`.
pub fn lineage_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/")
}

/// `wal/.../segments/<TLI>/`: one folder for each log file number below it.
pub fn segments_folder(name: &DeploymentName, lineage: Lineage, timeline: Timeline) -> String {
    format!("wal/{name}/{lineage}/segments/{}/", timeline.hex())
}

/// `wal/.../segments/<TLI>/<log>/<segment>`.
pub fn segment(name: &DeploymentName, lineage: Lineage, segment: SegmentName) -> Key {
    key(format!(
        "{}{:08X}/{segment}",
        segments_folder(name, lineage, segment.timeline),
        segment.log
    ))
}

/// `wal/.../tails/<TLI>/<segment>/`.
pub fn tails_folder(name: &DeploymentName, lineage: Lineage, segment: SegmentName) -> String {
    format!("wal/{name}/{lineage}/tails/{}/{segment}/", segment.timeline.hex())
}

/// `wal/.../tails/<TLI>/<segment>/<from>-<to>-<streamer>`; positions as sixteen hex digits, so that they sort.
pub fn tail(
    name: &DeploymentName,
    lineage: Lineage,
    segment: SegmentName,
    from: Lsn,
    to: Lsn,
    streamer: &WriterId,
) -> Key {
    key(format!(
        "{}{:016X}-{:016X}-{streamer}",
        tails_folder(name, lineage, segment),
        from.0,
        to.0
    ))
}

/// What stands in the name of a journal where that of a tail tells the end.
pub(crate) const JOURNAL: &str = "journal";

/// `wal/.../tails/<TLI>/<segment>/<from>-journal-<streamer>`.
pub fn journal(name: &DeploymentName, lineage: Lineage, segment: SegmentName, from: Lsn, streamer: &WriterId) -> Key {
    key(format!(
        "{}{:016X}-{JOURNAL}-{streamer}",
        tails_folder(name, lineage, segment),
        from.0
    ))
}

/// `wal/.../timelines/`.
pub fn timelines_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/timelines/")
}

/// `wal/.../timelines/<TLI>.history`.
pub fn history(name: &DeploymentName, lineage: Lineage, timeline: Timeline) -> Key {
    key(format!(
        "{}{}",
        timelines_folder(name, lineage),
        timeline.history_name()
    ))
}

/// `wal/.../aux/<name>`; `None` for a name that is not PostgreSQL's own.
pub fn aux(name: &DeploymentName, lineage: Lineage, file: &str) -> Option<Key> {
    let known = (file.ends_with(".partial") || file.ends_with(".backup")) && !file.contains('/');
    known.then(|| Key::new(format!("wal/{name}/{lineage}/aux/{file}")).ok())?
}

/// `wal/.../aux/`.
pub fn aux_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/aux/")
}

/// `wal/.../gaps/`.
pub fn gaps_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/gaps/")
}

/// `wal/.../gaps/<TLI>-<from>-<to>.json`.
pub fn gap(name: &DeploymentName, lineage: Lineage, timeline: Timeline, from: Lsn, to: Lsn) -> Key {
    key(format!(
        "{}{}-{:016X}-{:016X}.json",
        gaps_folder(name, lineage),
        timeline.hex(),
        from.0,
        to.0
    ))
}

/// What the name of a gap record in this folder says.
pub(crate) fn named_gap(folder: &str, key: &Key) -> Option<(Timeline, Lsn, Lsn)> {
    let name = key.as_str().strip_prefix(folder)?.strip_suffix(".json")?;
    let (timeline, range) = name.split_once('-')?;
    let (from, to) = range.split_once('-')?;
    let position = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    let (from, to) = (Lsn(position(from)?), Lsn(position(to)?));
    (from < to).then_some((Timeline::from_hex(timeline)?, from, to))
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
mod tests {
    use super::*;
    use hardstorage_report::SegmentSize;

    #[test]
    fn the_longest_names_fit() {
        let name: DeploymentName = "a".repeat(128).parse().unwrap();
        let backup = BackupId::compose(&name, "full", "20260625T083040Z", 0xffff).unwrap();
        let lineage = Lineage {
            system_id: SystemId(u64::MAX),
            incarnation: u16::MAX,
        };
        let writer = WriterId::new([255; 16]);
        let wal = SegmentName::containing(Timeline(u32::MAX), Lsn(u64::MAX), SegmentSize::DEFAULT);
        assert!(state(&name, &backup, u32::MAX).as_str().len() < Key::MAX);
        assert!(foreign_anchor([255; 16], &name, u64::MAX, &[255; 32]).as_str().len() < Key::MAX);
        assert!(tail(&name, lineage, wal, Lsn(0), Lsn(u64::MAX), &writer).as_str().len() < Key::MAX);
        assert_eq!(Lineage::from_folder(&lineage.to_string()), Some(lineage));
        assert_eq!(WriterId::from_hex(&writer.to_string()), Some(writer));
    }

    #[test]
    fn aux_takes_postgresql_names_only() {
        let name: DeploymentName = "db1".parse().unwrap();
        let lineage = Lineage {
            system_id: SystemId(1),
            incarnation: 1,
        };
        assert!(aux(&name, lineage, "000000010000000000000003.partial").is_some());
        for bad in ["../x.partial", "x", "a/b.backup", ""] {
            assert!(aux(&name, lineage, bad).is_none(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_are_read_back(writer: [u8; 16], sequence: u32, frame: u32) {
            let name: DeploymentName = "db1".parse().unwrap();
            let pack = PackId { writer: WriterId::new(writer), sequence };
            let key = super::pack(&name, &pack.writer, sequence);
            proptest::prop_assert_eq!(pack_id(&packs_folder(&name), &key), Some(pack));
            let key = damage(&name, &pack.writer, sequence, frame);
            proptest::prop_assert_eq!(damaged_frame(&damage_folder(&name), &key), Some((pack, frame)));
            let key = session(&name, &pack.writer, sequence);
            proptest::prop_assert_eq!(session_object(&sessions_folder(&name), &key), Some((pack.writer, sequence)));
            let number = u64::from(sequence) << 32 | u64::from(frame);
            let month = Month::parse("202611").unwrap();
            let key = audit(&name, month, number);
            proptest::prop_assert_eq!(audit_object(&audit_folder(&name), &key), Some((month, number)));
            let key = receipt(&name, number, [7; 8]);
            proptest::prop_assert_eq!(audit_object(&audit_folder(&name), &key), None);
            proptest::prop_assert_eq!(numbered(CONFIG_FOLDER, &config(sequence)), Some(sequence));
        }

        #[test]
        fn any_name_is_answered(text in "[a-f0-9/.json-]{0,80}") {
            if let Ok(key) = Key::new(format!("f/{text}")) {
                let _ = (pack_id("f/", &key), damaged_frame("f/", &key), session_object("f/", &key));
                let _ = audit_object("f/", &key);
                let number = numbered("f/", &key).map(|number| format!("{number:08x}.json"));
                proptest::prop_assert!(number.is_none_or(|name| name == text));
            }
        }
    }
}
