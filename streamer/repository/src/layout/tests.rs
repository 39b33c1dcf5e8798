//! The longest names, names of others, and names that are read back.

use super::*;
use hardstorage_report::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

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
