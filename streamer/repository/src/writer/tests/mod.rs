//! Whole backups through the writer, read back by the plainest possible reader and compared byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod edits;
mod failures;
mod read_back;
mod whole;
mod year;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hardstorage_codec::Secret;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{DynStore, MemoryStore};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::layer::SECTION_LEN;
use crate::table::{Entry, EntryKey, EntryKind};
use crate::{DataKey, Deployment, PackKind, RepoConfig, Surroundings, WriterId};

const BLOCK: u32 = 8192;

/// Files by name; `None` is a directory.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn small(store: DynStore, sealing: bool) -> Deployment {
    let config = RepoConfig {
        frame_size: 64 << 10,
        changed_frame_size: 128 << 10,
        pack_size: 1 << 20,
        ..RepoConfig::default()
    };
    let key = DataKey::new(Secret::new([5; 32]), [6; 16], 1, sealing);
    Deployment::for_tests_with(store, "db1", Surroundings::default(), key, config)
}

fn key(name: &str) -> EntryKey {
    EntryKey {
        tablespace: u32::from(name.starts_with("ts/")) * 16_400,
        path: name.as_bytes().to_vec(),
    }
}

async fn send(writer: &mut BackupWriter, tree: &Tree, piece: usize) -> Result<()> {
    for (name, content) in tree {
        match content {
            None => writer.add_directory(key(name), 0o700, 7).await?,
            Some(bytes) => {
                let meta = FileMeta {
                    key: key(name),
                    size: bytes.len() as u64,
                    mode: 0o600,
                    mtime: -3,
                };
                writer.start_file(meta).await?;
                for part in bytes.chunks(piece) {
                    writer.write(part).await?;
                }
                writer.end_file().await?;
            }
        }
    }
    Ok(())
}

async fn open(deployment: &Deployment, of: &Finished) -> Result<AncestorReader> {
    AncestorReader::open(deployment, &of.file_table, &of.pack_list, HashSet::new()).await
}

async fn backup(
    deployment: &Deployment,
    number: u8,
    tree: &Tree,
    ancestor: Option<AncestorReader>,
    piece: usize,
) -> Result<Finished> {
    let mut options = WriterOptions::new(WriterId::new([number; 16]), BLOCK);
    options.ancestor = ancestor;
    let mut writer = BackupWriter::begin(deployment, options).await?;
    send(&mut writer, tree, piece).await?;
    writer.finish().await
}

/// Bytes that do not compress to nothing and differ from page to page.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state & 0x0f0f_0f0f_0f0f_ffff).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
