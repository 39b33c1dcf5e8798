//! Writes the definitions into directories: `crdgen crds config/crd charts/pg-hardstorage/files/crds`. The installed forms of
//! them (plain files, kustomize, a chart) are all made by this one program from the same types.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use hardstorage_crds::definitions;

fn main() -> Result<(), Box<dyn Error>> {
    let directories: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if directories.is_empty() {
        return Err("usage: crdgen DIRECTORY...".into());
    }
    for definition in definitions()? {
        for directory in &directories {
            let path = directory.join(&definition.file);
            fs::write(&path, &definition.yaml).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
