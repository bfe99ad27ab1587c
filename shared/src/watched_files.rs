//! Notices that files have changed, without reading them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What changes with a file: its inode, its time and its size. `None` if it cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp(Option<(u64, i64, i64, u64)>);

impl FileStamp {
    /// Looks at a file. Symbolic links are followed, since an orchestrator replaces a mounted secret by changing one.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let file = std::fs::metadata(path).ok();
        Self(file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len())))
    }
}

/// Files that are read again when they change.
#[derive(Debug, Default)]
pub struct WatchedFiles {
    /// Each as it was when it was last read, and as it was at the last look.
    stamps: BTreeMap<PathBuf, (FileStamp, FileStamp)>,
}

impl WatchedFiles {
    /// Files that are about to be read.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let stamped = |file: &Path| (file.to_owned(), (FileStamp::of(file), FileStamp::of(file)));
        Self { stamps: files.into_iter().map(stamped).collect() }
    }

    /// Which of them have changed since they were last read. One that changed since the last look as well is left for the next one: it may
    /// be half written.
    pub fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, (read, seen)) in &mut self.stamps {
            let now = FileStamp::of(file);
            if now != *read && now == *seen {
                changed.push(file.clone());
            }
            *seen = now;
        }
        changed
    }

    /// They are about to be read again.
    pub fn reading(&mut self) {
        for (file, (read, _)) in &mut self.stamps {
            *read = FileStamp::of(file);
        }
    }
}
