//! The calls that change a directory or make it durable. All that this store does to a disk goes through here, so that a
//! test can die before and after each of them, and knows what a power cut would leave (see [`crate::trial`]). They are those
//! of the kernel and take what it takes; what an error means is for the caller to say.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::trial;

/// Makes a file that is not there yet, mode 0600, to be written.
pub(super) fn create(at: BorrowedFd<'_>, name: &str) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    trial::change("create", at, &[name.as_ref()], || {
        rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
    })
}

/// Writes some of these bytes where the file stands, which is so many bytes behind its beginning.
pub(super) fn write(mut file: &File, stands: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    trial::write(file, stands, slices, || file.write_vectored(slices))
}

/// Writes all of these bytes to a place of a file.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    trial::write(file, offset, &[IoSlice::new(bytes)], || {
        file.write_all_at(bytes, offset).map(|()| bytes.len())
    })
    .map(drop)
}

/// Makes the bytes of a file durable.
pub(super) fn sync_bytes(file: &File) -> Result<(), Errno> {
    trial::sync("fdatasync", file.as_fd(), || rustix::fs::fdatasync(file))
}

/// Makes the bytes of a file or the names in a directory durable.
pub(super) fn sync(file: BorrowedFd<'_>) -> Result<(), Errno> {
    trial::sync("fsync", file, || match rustix::fs::fsync(file) {
        // Some network and FUSE file systems know no fsync of a directory; the whole file system then.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => rustix::fs::syncfs(file),
        result => result,
    })
}

/// Gives a file another name that is not taken.
pub(super) fn link(at: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    trial::change("link", at, &[from.as_ref(), to.as_ref()], || {
        rustix::fs::linkat(at, from, at, to, AtFlags::empty())
    })
}

/// Gives a file a name that is not taken, instead of the one that it has.
pub(super) fn rename_new(at: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    trial::change("rename", at, &[from.as_ref(), to.as_ref()], || {
        rustix::fs::renameat_with(at, from, at, to, RenameFlags::NOREPLACE)
    })
}

/// Takes a name away from a file.
pub(super) fn remove(at: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    trial::change("remove", at, &[name.as_ref()], || {
        rustix::fs::unlinkat(at, name, AtFlags::empty())
    })
}

/// Makes a directory.
pub(super) fn make_folder(at: BorrowedFd<'_>, name: impl AsRef<Path>, mode: u32) -> Result<(), Errno> {
    let name = name.as_ref();
    trial::change("mkdir", at, &[name], || {
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode))
    })
}

/// Removes an empty directory.
pub(super) fn remove_folder(at: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    trial::change("rmdir", at, &[name.as_ref()], || {
        rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
    })
}
