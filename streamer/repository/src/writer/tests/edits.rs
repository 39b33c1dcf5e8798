//! Any edits over any number of backups.

use proptest::prelude::*;

use super::read_back::must_equal;
use super::*;

#[derive(Debug, Clone)]
pub(super) enum Edit {
    Page { file: usize, page: usize, zero: bool },
    Length { file: usize, length: usize },
    Drop { file: usize },
    Swap { one: usize, other: usize },
    Touch { file: usize },
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        6 => (0usize..6, 0usize..260, any::<bool>()).prop_map(|(file, page, zero)| Edit::Page { file, page, zero }),
        2 => (0usize..6, 0usize..2_200_000).prop_map(|(file, length)| Edit::Length { file, length }),
        1 => (0usize..6).prop_map(|file| Edit::Drop { file }),
        1 => (0usize..6, 0usize..6).prop_map(|(one, other)| Edit::Swap { one, other }),
        1 => (0usize..6).prop_map(|file| Edit::Touch { file }),
    ];
    proptest::collection::vec(edit, 0..12)
}

pub(super) fn apply(tree: &mut Tree, edit: &Edit, seed: u64) {
    let name = |file: usize| {
        if file == 5 {
            "ts/5".to_owned()
        } else {
            format!("base/{file}")
        }
    };
    match edit {
        Edit::Page { file, page, zero } => {
            if let Some(Some(bytes)) = tree.get_mut(&name(*file)) {
                let pages = bytes.len().div_ceil(BLOCK as usize).max(1);
                let start = page % pages * BLOCK as usize;
                let end = (start + BLOCK as usize).min(bytes.len());
                let new = if *zero {
                    vec![0; end - start]
                } else {
                    noise(seed, end - start)
                };
                bytes[start..end].copy_from_slice(&new);
            }
        }
        Edit::Length { file, length } => {
            let bytes = tree
                .entry(name(*file))
                .or_insert_with(|| Some(Vec::new()))
                .as_mut()
                .unwrap();
            let before = bytes.len();
            if before < *length {
                bytes.extend_from_slice(&noise(seed, length - before));
            } else {
                bytes.truncate(*length);
            }
        }
        Edit::Drop { file } => drop(tree.remove(&name(*file))),
        Edit::Swap { one, other } => {
            let (a, b) = (tree.remove(&name(*one)), tree.remove(&name(*other)));
            if let Some(b) = b {
                tree.insert(name(*one), b);
            }
            if let Some(a) = a {
                tree.insert(name(*other), a);
            }
        }
        Edit::Touch { file } => drop(tree.entry(name(*file)).or_insert_with(|| Some(noise(seed, 100)))),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any edits over any number of backups, each compared with any earlier one, restore exactly.
    #[test]
    fn every_backup_restores_exactly(
        steps in proptest::collection::vec((edits(), any::<prop::sample::Index>(), 0u8..5), 1..7),
        sealing in any::<bool>(), piece in 1_000usize..70_000,
    ) {
        runtime().block_on(async {
            let deployment = small(Arc::new(MemoryStore::new()), sealing);
            let mut tree = Tree::from([
                ("base".to_owned(), None),
                ("base/0".to_owned(), Some(noise(1, 1_700_000))),
                ("base/1".to_owned(), Some([noise(2, 1 << 20), vec![0; 600_000]].concat())),
                ("base/2".to_owned(), Some(noise(3, 50_000))),
                ("base/3".to_owned(), Some(Vec::new())),
            ]);
            let mut done: Vec<(Finished, Tree)> = Vec::new();
            for (number, (edits, pick, none)) in steps.iter().enumerate() {
                for (index, edit) in edits.iter().enumerate() {
                    apply(&mut tree, edit, (number * 100 + index + 10) as u64);
                }
                let ancestor = if done.is_empty() || *none == 0 {
                    None
                } else {
                    // Most often the last one, as it is in life.
                    let of = if *none == 1 { pick.index(done.len()) } else { done.len() - 1 };
                    Some(open(&deployment, &done[of].0).await.unwrap())
                };
                let finished = backup(&deployment, number as u8 + 1, &tree, ancestor, piece).await.unwrap();
                done.push((finished, tree.clone()));
            }
            for (finished, tree) in &done {
                must_equal(&deployment, finished, tree).await;
            }
        });
    }
}
