//! Where the repository lies: in an object store behind a bad network, or in a directory on a volume that fills up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::process::geteuid;

use super::chronicle::Chronicle;
use super::dice::Dice;
use super::proxy::Proxy;
use crate::answer::{Answer, run};
use crate::product::Hardstorage;
use crate::scratch::Scratch;
use crate::store::{ObjectStore, url_by};

const BUCKET: &str = "torture";
/// In bytes, as `mount` takes them; memory is used only for what is stored.
const WHOLE: u64 = 2 << 30;
/// What a full volume has left: enough to begin something.
const LEFT: u64 = 300 << 10;

/// One of the two.
#[derive(Debug)]
pub enum Storage {
    /// MinIO, and what is between.
    Objects {
        /// The server.
        store: Box<ObjectStore>,
        /// In front of it.
        proxy: Proxy,
    },
    /// A directory.
    Volume(Volume),
}

/// A directory with a size of its own, if we may mount.
#[derive(Debug)]
pub struct Volume {
    mounted: bool,
    path: PathBuf,
    /// Behind what is mounted in it.
    _scratch: Scratch,
}

impl Storage {
    /// An object store.
    pub fn objects(dice: &mut Dice) -> Storage {
        let store = ObjectStore::minio();
        store.bucket(BUCKET);
        let proxy = Proxy::before(store.socket(), dice.split());
        Storage::Objects {
            store: Box::new(store),
            proxy,
        }
    }

    /// A directory.
    pub fn volume(chronicle: &Chronicle) -> Storage {
        let scratch = Scratch::new();
        let path = scratch.dir("volume");
        let volume = Volume {
            mounted: geteuid().is_root()
                && mount(&path, &format!("size={WHOLE},mode=0700,uid=65534,gid=65534")).code == Some(0),
            path,
            _scratch: scratch,
        };
        if !volume.mounted {
            chronicle.note("SKIPPED: the volume cannot fill up, because only root may mount one with a size");
        }
        Storage::Volume(volume)
    }

    /// The repository's URL.
    pub fn url(&self) -> String {
        match self {
            Storage::Objects { proxy, .. } => url_by(&proxy.endpoint(), BUCKET),
            Storage::Volume(volume) => format!("file://{}/repository", volume.path.display()),
        }
    }

    /// What everybody needs in the environment who reads or writes it.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Storage::Objects { store, .. } => store.credentials().to_vec(),
            Storage::Volume(_) => Vec::new(),
        }
    }

    /// A user of the product who has these.
    pub fn user(&self) -> Hardstorage {
        let mut product = Hardstorage::new();
        for (name, value) in self.environment() {
            product.set(name, value);
        }
        product
    }

    /// How many requests have met a trouble of the network or the store.
    pub fn met(&self) -> u64 {
        match self {
            Storage::Objects { proxy, .. } => proxy.met(),
            Storage::Volume(_) => 0,
        }
    }

    /// Ends every trouble.
    pub fn heal(&self) {
        match self {
            Storage::Objects { proxy, .. } => proxy.heal(),
            Storage::Volume(volume) => volume.enlarge(),
        }
    }
}

impl Volume {
    /// Whether it can fill up.
    pub fn has_a_size(&self) -> bool {
        self.mounted
    }

    /// Leaves almost nothing free.
    #[track_caller]
    pub fn fill(&self) {
        let stat = statvfs(&self.path).unwrap();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        self.resize(used + LEFT);
    }

    /// Makes it as large as it was.
    #[track_caller]
    pub fn enlarge(&self) {
        self.resize(WHOLE);
    }

    #[track_caller]
    fn resize(&self, size: u64) {
        if self.mounted {
            mount(&self.path, &format!("remount,size={size}")).ok();
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let kept = std::thread::panicking() && std::env::var_os("HARDSTORAGE_KEEP").is_some();
        if self.mounted && !kept {
            let mut umount = Command::new("umount");
            // At once for those who look for it; whoever still reads from it keeps it until then.
            umount.arg("--lazy").arg(&self.path);
            // A destructor must not panic: what stays mounted is empty space in a directory of its own.
            umount.status().ok();
        }
    }
}

#[track_caller]
fn mount(path: &Path, options: &str) -> Answer {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path);
    run(mount, Duration::from_mins(1))
}
