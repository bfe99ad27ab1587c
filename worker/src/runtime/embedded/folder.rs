//! The data folder of the embedded Redis, and the lock that decides which worker serves it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use redial_core::db::embedded;
use redial_core::{Db, private_files};

/// The data folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
    password: Option<String>,
}

impl Folder {
    /// Opens the folder, and creates it if necessary. Nobody but this user may read it. The server in it has a password if `has_password`.
    pub(super) fn open(path: PathBuf, has_password: bool) -> anyhow::Result<Self> {
        let open = || {
            private_files::create_folder(&path)?;
            let options = OpenOptions::new().create(true).truncate(true).write(true).clone();
            let lock = private_files::open(&path.join("lock"), &options)?;
            let password = if has_password { Some(embedded::ensure_password(&path)?) } else { None };
            Ok::<_, std::io::Error>((lock, password))
        };
        let (lock, password) = open().with_context(|| {
            format!("cannot use {}: set state_dir (REDIAL_STATE_DIR) to another folder", path.display())
        })?;
        Ok(Self { path, lock, password })
    }

    /// The password of the server.
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
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

    /// Removes a password that the server will not have: commands would show it.
    pub(super) fn remove_old_password(&self) {
        if self.password.is_none()
            && let Err(error) = embedded::remove_password(&self.path)
        {
            tracing::warn!(%error, "cannot delete the old password of the embedded Redis");
        }
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
