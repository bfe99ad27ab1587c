//! Where the embedded Redis of this machine is, and its password if it has one.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::private_files;

/// The folder for what workers of this user keep: `$XDG_STATE_HOME/redial`, or else `~/.local/state/redial`. `None`: there is no home.
pub fn default_state_dir() -> Option<PathBuf> {
    match std::env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty()) {
        Some(state) => Some(PathBuf::from(state).join("redial")),
        None => Some(std::env::home_dir()?.join(".local/state/redial")),
    }
}

/// The data folder of the embedded Redis.
pub fn data_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("redis")
}

/// Where the embedded Redis is, with its password if this user's workers have set one.
///
/// # Errors
/// The password cannot be read: its file is a link, or belongs to another user.
pub fn url(state_dir: Option<&Path>, port: u16) -> io::Result<String> {
    let password = state_dir.map(|state_dir| password(&data_folder(state_dir))).transpose()?.flatten();
    let login = password.map(|password| format!(":{password}@")).unwrap_or_default();
    Ok(format!("redis://{login}127.0.0.1:{port}"))
}

/// The password of the embedded Redis in a data folder, if it has one.
///
/// # Errors
/// Its file cannot be read.
pub fn password(data_folder: &Path) -> io::Result<Option<String>> {
    let path = file(data_folder);
    let mut text = String::new();
    match private_files::open(&path, OpenOptions::new().read(true)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        Ok(mut file) => file.read_to_string(&mut text)?,
    };
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Returns the password, and creates one if there is none. Workers that ask for it at the same time get the same one.
///
/// # Errors
/// Its file cannot be read or written.
pub fn ensure_password(data_folder: &Path) -> io::Result<String> {
    if let Some(password) = password(data_folder)? {
        return Ok(password);
    }
    let new = data_folder.join(format!("password.{:x}", rand::random::<u64>()));
    private_files::replace(&new)?.write_all(random_password().as_bytes())?;
    // Complete when it appears, and the first one counts.
    let linked = std::fs::hard_link(&new, file(data_folder));
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => password(data_folder)?.ok_or_else(|| io::Error::other("the password file is empty: delete it")),
    }
}

/// Removes the password, for a server without one.
///
/// # Errors
/// Its file cannot be deleted.
pub fn remove_password(data_folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(file(data_folder)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file(data_folder: &Path) -> PathBuf {
    data_folder.join("password")
}

/// 256 random bits, in digits that URLs and settings of Redis need not escape.
fn random_password() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}
