//! Notices that a file has changed, without reading it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
