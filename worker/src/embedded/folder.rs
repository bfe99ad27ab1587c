//! The embedded Redis's data folder, and the lock that says which worker serves it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use redial_core::Db;

/// The data folder, open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Opens the folder, making it where there is none.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let open = || {
            std::fs::create_dir_all(&path)?;
            File::create(path.join("lock"))
        };
        let lock = open().with_context(|| {
            format!("{} can't be written: state_dir (REDIAL_STATE_DIR) names another folder", path.display())
        })?;
        Ok(Self { path, lock })
    }

    /// Whether a worker on this machine runs a server on this folder.
    pub(super) fn is_served(&self) -> bool {
        !self.take() || {
            self.leave();
            false
        }
    }

    /// Whether that Redis has its data here.
    pub(super) async fn is_data_of(&self, redis: &Db) -> bool {
        match (redis.data_folder().await, self.path.canonicalize()) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            _ => false,
        }
    }

    /// Takes the folder for a server of this worker, unless another worker has it.
    pub(super) fn take(&self) -> bool {
        self.lock.try_lock().is_ok()
    }

    /// Leaves it to others. The lock also ends with the process.
    pub(super) fn leave(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of the data folder can't be released before this worker ends");
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("redis.log")
    }
}
