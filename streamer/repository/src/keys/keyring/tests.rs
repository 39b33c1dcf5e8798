#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! The keyring on a real directory.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn world() -> Surroundings {
    Surroundings::default()
}

fn ring() -> (tempfile::TempDir, Keyring) {
    let directory = tempfile::tempdir().unwrap();
    let keyring = Keyring::open(directory.path().join("keyring"));
    (directory, keyring)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn reading_creates_nothing() {
    let (directory, keyring) = ring();
    assert!(keyring.kek().unwrap().is_none());
    assert!(keyring.signing_key().unwrap().is_none());
    assert!(!keyring.is_exported(&Secret::new([1; 32])).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn made_once_and_private() {
    let (_directory, keyring) = ring();
    let kek = keyring.create_kek(&world()).unwrap();
    assert_eq!(keyring.kek().unwrap().unwrap().expose(), kek.expose());
    assert!(
        keyring
            .create_kek(&world())
            .unwrap_err()
            .is(code::repository::KEY_EXISTS)
    );
    assert_eq!(keyring.kek().unwrap().unwrap().expose(), kek.expose());
    let path = keyring.kek_path().unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let parent = path.parent().unwrap();
    assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(parent).unwrap().count(), 1, "no draft is left");
}

#[test]
fn others_may_not_touch_it() {
    let (_directory, keyring) = ring();
    keyring.create_kek(&world()).unwrap();
    keyring.ensure_signer(&world()).unwrap();
    let directory = keyring.kek_path().unwrap().parent().unwrap().to_owned();
    // What belongs to root its group may read: so do schedulers mount secrets.
    let group_reads_roots = fs::metadata(directory.join(KEK)).unwrap().uid() == 0;
    for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        if bit == 0o040 && group_reads_roots {
            set_mode(&directory.join(KEK), 0o440);
            keyring.kek().unwrap().unwrap();
            continue;
        }
        for (file, name) in [(KEK, "kek"), (SIGNING, "signing")] {
            set_mode(&directory.join(file), 0o600 | bit);
            let refused = match name {
                "kek" => keyring.kek().map(|_| ()),
                _ => keyring.signing_key().map(|_| ()),
            };
            assert!(
                refused.unwrap_err().is(code::repository::KEY_PERMISSIONS),
                "{name} {bit:o}"
            );
            set_mode(&directory.join(file), 0o400);
            keyring.kek().unwrap().unwrap();
            keyring.signing_key().unwrap().unwrap();
        }
    }
}

#[test]
fn only_a_proven_absence_is_none() {
    let (_directory, keyring) = ring();
    let path = keyring.kek_path().unwrap().to_owned();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    symlink("nowhere", &path).unwrap();
    assert!(
        keyring.kek().unwrap_err().is(code::repository::KEYRING_IO),
        "a dangling link"
    );
    assert!(keyring.create_kek(&world()).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        keyring.kek().unwrap_err().is(code::repository::KEY_MALFORMED),
        "a directory"
    );
    fs::remove_dir(&path).unwrap();
    for length in [0, 31, 33, 100] {
        fs::write(&path, vec![7; length]).unwrap();
        set_mode(&path, 0o600);
        assert!(
            keyring.kek().unwrap_err().is(code::repository::KEY_MALFORMED),
            "{length} bytes"
        );
    }
    let below_a_file = Keyring::open(&path);
    assert!(below_a_file.kek().is_err(), "not a directory");
    // As a mounted secret looks: a link to a file of mode 0400.
    fs::write(parent.join("data"), [7; 32]).unwrap();
    set_mode(&parent.join("data"), 0o400);
    fs::remove_file(&path).unwrap();
    symlink("data", &path).unwrap();
    assert!(keyring.kek().unwrap().is_some());
}

#[test]
fn a_signer_is_made_once_and_a_lost_one_is_not_replaced() {
    let (_directory, keyring) = ring();
    let key = keyring.ensure_signer(&world()).unwrap();
    assert_eq!(keyring.ensure_signer(&world()).unwrap().public(), key.public());
    let directory = keyring.kek_path().unwrap().parent().unwrap().to_owned();
    fs::remove_file(directory.join(PUBLIC)).unwrap();
    assert_eq!(keyring.ensure_signer(&world()).unwrap().public(), key.public());
    assert!(directory.join(PUBLIC).exists());
    fs::remove_file(directory.join(SIGNING)).unwrap();
    let refused = keyring.ensure_signer(&world()).unwrap_err();
    assert!(refused.is(code::repository::SIGNING_KEY_MISSING));
    fs::write(directory.join(SIGNING), [1; 32]).unwrap();
    set_mode(&directory.join(SIGNING), 0o600);
    assert!(
        keyring
            .ensure_signer(&world())
            .unwrap_err()
            .is(code::repository::KEY_MALFORMED)
    );
}

#[test]
fn of_racing_writers_all_hold_one_signer() {
    let (_directory, keyring) = ring();
    let barrier = std::sync::Barrier::new(8);
    let keys: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    keyring.ensure_signer(&world())
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let made = keyring.signing_key().unwrap().unwrap().public();
    for key in keys {
        assert_eq!(key.unwrap().public(), made);
    }
}

#[test]
fn rotation_keeps_the_old_key() {
    let (_directory, keyring) = ring();
    let old = keyring.create_kek(&world()).unwrap();
    assert!(keyring.promote_kek().is_err(), "nothing staged");
    let staged = keyring.stage_kek(&world()).unwrap();
    assert_eq!(keyring.stage_kek(&world()).unwrap().expose(), staged.expose());
    assert_eq!(keyring.kek().unwrap().unwrap().expose(), old.expose());
    let kept = keyring.promote_kek().unwrap();
    assert_eq!(keyring.kek().unwrap().unwrap().expose(), staged.expose());
    assert_eq!(fs::read(kept).unwrap(), old.expose());
}

#[test]
fn export_belongs_to_one_key() {
    let (_directory, keyring) = ring();
    let kek = keyring.create_kek(&world()).unwrap();
    assert!(!keyring.is_exported(&kek).unwrap());
    keyring.mark_exported(&kek, &world()).unwrap();
    assert!(keyring.is_exported(&kek).unwrap());
    assert!(!keyring.is_exported(&Secret::new([1; 32])).unwrap());
}

#[test]
fn single_files_are_read_only() {
    let (directory, keyring) = ring();
    let kek = keyring.create_kek(&world()).unwrap();
    let single = Keyring::from_files(KeyFiles {
        kek: keyring.kek_path().map(Path::to_owned),
        signing: Some(directory.path().join("absent")),
    });
    assert_eq!(single.kek().unwrap().unwrap().expose(), kek.expose());
    assert!(single.create_kek(&world()).is_err() && single.ensure_signer(&world()).is_err());
    assert!(single.signing_key().unwrap().is_none());
    assert!(Keyring::from_files(KeyFiles::default()).kek().unwrap().is_none());
}
