//! Writes the definitions into the tree, wherever they are installed from (plain files, kustomize, the chart), and their pages
//! of the book. One program makes all of them from the same types: `cargo run -p hardstorage-crds --bin crdgen`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_crds::definitions;

const INSTALLED: [&str; 3] = ["crds", "config/crd", "charts/pg-hardstorage/files/crds"];
const BOOK: &str = "docs/reference";

fn main() -> Result<(), Box<dyn Error>> {
    let tree = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    for definition in definitions()? {
        for folder in INSTALLED {
            write(&tree.join(folder).join(&definition.file), &definition.yaml)?;
        }
        write(&tree.join(BOOK).join(&definition.page_file), &definition.page)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
