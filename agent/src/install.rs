//! Copies the agent into the pod's emptyDir, from where the app's own image can execute it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Everybody may execute the copy: the containers of a pod may run as different users.
const MODE: u32 = 0o755;

/// Puts a copy of the running program at the path, atomically, whatever is there, and copies the other files likewise.
///
/// The directories must be writable, nothing else: an emptyDir is, for any user, and has no sticky bit, so that a file
/// that another user left there can be replaced too.
///
/// # Errors
/// A sentence that says what could not be done.
pub fn install(agent: &Path, others: &[(PathBuf, PathBuf)]) -> Result<(), String> {
    // /proc/self/exe works in an image that holds nothing else, by whatever path it was started.
    copy(Path::new("/proc/self/exe"), agent)?;
    others.iter().try_for_each(|(from, to)| copy(from, to))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |what: &str, error: io::Error| format!("cannot {what} {}: {error}", to.display());
    let mut from = File::open(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).map_err(|error| failed("make the directory of", error))?;
    }
    let mut name = to.file_name().ok_or_else(|| format!("{} names no file", to.display()))?.to_owned();
    name.push(".new");
    let new = to.with_file_name(name);
    // What a container that was killed here left behind, perhaps as another user.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("clear the way for", error)),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        io::copy(&mut from, &mut file)?;
        // The mode above went through the umask.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.sync_all()?;
        fs::rename(&new, to)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        failed("write", error)
    })
}
