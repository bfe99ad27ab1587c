//! Files and folders that belong to one user: what Redial keeps beside its work, where others of the machine might have laid a trap.
//!
//! A folder that many may write to, such as `/tmp`, can contain a link with the name of a file that Redial is about to write. Links are
//! never followed here, what belongs to another user is refused, and nobody else may read what is created.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Creates a folder and those above it for this user only (0700), or checks one that exists and closes it to others.
///
/// # Errors
/// It is a link or belongs to another user, or cannot be created.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Err(refused("it is not a folder itself, but a link"));
    }
    check_owner(meta.uid())?;
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Opens a file with these options, and without following a link. If it is created, it is for this user only (0600).
///
/// # Errors
/// It is a link, belongs to another user, or is not a file; or it cannot be opened.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => refused("it is a link"),
        _ => error,
    })?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(refused("it is not a file"));
    }
    check_owner(meta.uid())?;
    Ok(file)
}

/// Creates a file in place of one that may be there.
///
/// # Errors
/// It cannot be created, or something else creates it at the same time.
pub fn replace(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    open(path, OpenOptions::new().create_new(true).write(true))
}

fn check_owner(owner: u32) -> io::Result<()> {
    // SAFETY: a plain system call without arguments, which cannot fail.
    #[allow(unsafe_code)]
    let own = unsafe { libc::geteuid() };
    if owner == own { Ok(()) } else { Err(refused("it belongs to another user")) }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("{why}; it is not touched: move it away, or use another path"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> io::Result<std::path::PathBuf> {
        let path = std::env::temp_dir().join(format!("redial-private-{:x}", rand::random::<u64>()));
        create_folder(&path)?;
        Ok(path)
    }

    fn mode(path: &Path) -> io::Result<u32> {
        Ok(std::fs::metadata(path)?.mode() & 0o777)
    }

    #[test]
    fn what_is_created_is_for_this_user_only() -> io::Result<()> {
        let folder = folder()?;
        let deep = folder.join("a/b");
        create_folder(&deep)?;
        open(&deep.join("file"), OpenOptions::new().create(true).append(true))?;
        replace(&deep.join("file"))?;
        assert_eq!((mode(&folder)?, mode(&deep)?, mode(&deep.join("file"))?), (0o700, 0o700, 0o600));
        std::fs::set_permissions(&deep, Permissions::from_mode(0o755))?;
        create_folder(&deep)?;
        assert_eq!(mode(&deep)?, 0o700);
        std::fs::remove_dir_all(folder)
    }

    #[test]
    fn a_link_is_not_followed_and_only_a_file_is_opened() -> io::Result<()> {
        let folder = folder()?;
        let (target, link) = (folder.join("target"), folder.join("link"));
        std::fs::write(&target, "kept")?;
        symlink(&target, &link)?;
        let write = OpenOptions::new().create(true).truncate(true).write(true).clone();
        assert!(open(&link, &write).is_err_and(|error| error.to_string().contains("it is a link")));
        replace(&link)?;
        assert_eq!(std::fs::read_to_string(&target)?, "kept");
        assert!(!std::fs::symlink_metadata(&link)?.is_symlink());
        symlink(folder.join("nowhere"), folder.join("dangling"))?;
        assert!(open(&folder.join("dangling"), &write).is_err() && !folder.join("nowhere").exists());
        symlink(&folder, folder.join("linked"))?;
        assert!(create_folder(&folder.join("linked")).is_err_and(|error| error.to_string().contains("a link")));
        assert!(
            open(&folder, OpenOptions::new().read(true)).is_err_and(|error| error.to_string().contains("not a file"))
        );
        std::fs::remove_dir_all(folder)
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        assert!(check_owner(u32::MAX).is_err_and(|error| error.to_string().contains("belongs to another user")));
    }
}
