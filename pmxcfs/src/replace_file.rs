//! Replacing a small file in one step.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use pmxcfs_api_types::files::{directory_of, sync_directory_of};

/// Everybody may read it.
const MODE: u32 = 0o644;

/// Puts a text in the place of a file. A reader meets the old text or the new one, and so does a host that loses its power: the new
/// text is on the disk before it gets the name, and when this returns, so is the name.
pub(crate) fn replace_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut draft = tempfile::Builder::new()
        .prefix(path.file_name().unwrap_or_default())
        .tempfile_in(directory_of(path))?;
    fchown(draft.as_file(), Some(0), Some(0))?;
    draft
        .as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    draft.write_all(text)?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    sync_directory_of(path)
}
