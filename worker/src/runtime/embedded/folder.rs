//! The data folder of the embedded Redis, and the lock that decides which worker serves it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use redial_core::Db;

/// The data folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Opens the folder, and creates it if necessary.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let open = || {
            std::fs::create_dir_all(&path)?;
            File::create(path.join("lock"))
        };
        let lock = open().with_context(|| {
            format!("cannot write to {}: set state_dir (REDIAL_STATE_DIR) to another folder", path.display())
        })?;
        Ok(Self { path, lock })
    }

    /// Whether a worker on this machine runs a server in this folder.
    pub(super) fn is_served(&self) -> bool {
        !self.try_lock() || {
            self.unlock();
            false
        }
    }

    /// Whether that Redis keeps its data here.
    pub(super) async fn is_data_of(&self, redis: &Db) -> bool {
        match (redis.data_folder().await, self.path.canonicalize()) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            _ => false,
        }
    }

    /// Locks the folder for a server of this worker, unless another worker has locked it.
    pub(super) fn try_lock(&self) -> bool {
        self.lock.try_lock().is_ok()
    }

    /// Lets other workers lock it. The lock also ends with the process.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "cannot unlock the data folder before this worker ends");
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's log file.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("redis.log")
    }
}
