//! Where things lie that a test needs but does not make: the cache that `scripts/` fills, the product's binary, and
//! loopback addresses that nobody else uses.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::geteuid;

/// The cache outside the tree; the same rule as `scripts/cache.sh`.
pub fn cache_root() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(root) = set("HARDSTORAGE_CACHE") {
        return root;
    }
    if geteuid().is_root() {
        return PathBuf::from("/var/cache/pg_hardstorage");
    }
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(|| panic!("neither HARDSTORAGE_CACHE nor HOME is set"))
        .join("pg_hardstorage")
}

/// A path in the tree of the project. It is asked for when a test runs: a binary in a target directory that several clones
/// share may have been built by another one, which is gone.
pub fn tree(path: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("run this with cargo: it says where the tree is");
    let root = Path::new(&package)
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file());
    root.unwrap_or_else(|| panic!("{} is not in the tree", package.display()))
        .join(path)
}

/// Something in the cache, or a failure that names the script which brings it.
pub(crate) fn cached(path: &str, script: &str) -> PathBuf {
    let whole = cache_root().join(path);
    assert!(
        whole.exists(),
        "{} is missing: run scripts/{script}, or make test",
        whole.display()
    );
    whole
}

/// One of PostgreSQL's programs, by major version. Run it with `LD_LIBRARY_PATH` set to the `lib` beside its `bin`.
pub fn postgres_program(major: u16, name: &str) -> PathBuf {
    cached(
        &format!("postgres/{major}/bin/{name}"),
        &format!("fetch-postgres {major}"),
    )
}

/// The product's binary: `HARDSTORAGE_BIN`, else the one that lies in the target directory of this test.
pub fn product_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HARDSTORAGE_BIN") {
        return PathBuf::from(path);
    }
    // <target>/<profile>/deps/<test>, or <target>/<profile>/<binary>.
    let own = std::env::current_exe().unwrap();
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("pg_hardstorage"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no pg_hardstorage beside {}: run cargo build -p pg_hardstorage, or set HARDSTORAGE_BIN",
            own.display()
        )
    })
}

/// An address in 127.0.0.0/8 on which `port` is free and that no other test picks: all of that network is the loopback
/// without set-up, so each server has its usual port and nobody races for one.
pub fn free_loopback(port: u16) -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let own = process::id().wrapping_mul(64);
    loop {
        let number = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, a, b, c] = number.to_be_bytes();
        // Not 127.0.x.y, where other programs live.
        let address = Ipv4Addr::new(127, a | 0x80, b, c);
        if (1..255).contains(&c) && TcpListener::bind(SocketAddrV4::new(address, port)).is_ok() {
            return address;
        }
    }
}

/// Whether somebody without rights may read and execute the file where it lies.
pub(crate) fn reachable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors().all(|part| {
        part.as_os_str().is_empty() || part.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    })
}
