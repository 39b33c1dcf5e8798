//! The released program: nothing but the work.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::DynStore;

/// Does nothing.
#[inline]
pub fn promise(_text: impl FnOnce() -> String) {}

#[inline]
pub(crate) fn opened(_root: BorrowedFd<'_>) {}

#[inline]
pub(crate) fn change<T, E>(
    _kind: &'static str,
    _at: BorrowedFd<'_>,
    _names: &[&Path],
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    work()
}

#[inline]
pub(crate) fn write(
    _file: &File,
    _offset: u64,
    _slices: &[IoSlice<'_>],
    work: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    work()
}

#[inline]
pub(crate) fn sync(
    _kind: &'static str,
    _file: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    work()
}

#[inline]
pub(crate) fn watched(store: DynStore) -> DynStore {
    store
}
