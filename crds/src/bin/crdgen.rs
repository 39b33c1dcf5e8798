//! Writes the definitions into a directory: `crdgen crds`. The installed forms of them (plain files, kustomize, a chart) are
//! all made by this one program from the same types.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use hardstorage_crds::definitions;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: crdgen DIRECTORY")?;
    for definition in definitions()? {
        let path = directory.join(&definition.file);
        fs::write(&path, &definition.yaml).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
