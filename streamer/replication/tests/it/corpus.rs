//! The committed corpus through every fuzz entry point: whole, cut at every byte, and with every byte changed. Each of
//! these is a broken server, and none may make the client panic.

use std::fs;

use hardstorage_e2e::tree;
use hardstorage_replication::fuzz;

#[test]
fn no_broken_server_makes_the_client_panic() {
    let corpus = tree("streamer/replication/tests/corpus");
    for (name, run) in fuzz::ALL {
        let mut cases = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let data = fs::read(entry.unwrap().path()).unwrap();
            run(&data);
            for at in 0..data.len() {
                run(&data[..at]);
                for byte in [0, 1, 0x7f, 0x80, 0xff, data[at].wrapping_add(1)] {
                    let mut changed = data.clone();
                    changed[at] = byte;
                    run(&changed);
                }
            }
            cases += 1;
        }
        assert!(cases >= 3, "{name} has {cases} cases");
    }
}

#[test]
fn every_folder_of_the_corpus_has_an_entry_point() {
    let corpus = tree("streamer/replication/tests/corpus");
    for folder in fs::read_dir(corpus).unwrap() {
        let folder = folder.unwrap().file_name();
        let known = fuzz::ALL.iter().any(|(name, _)| folder == *name);
        assert!(known, "{} has no entry point", folder.display());
    }
}
