//! Folders that results go to.

use std::path::Path;

use anyhow::{Context, ensure};

/// Refuses a folder that holds anything, which results of a whole folder might be written over. Hidden files do not
/// count; a folder that is not there is empty.
pub fn ensure_empty(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let entries = folder.read_dir().with_context(|| format!("cannot use the folder {}", folder.display()))?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let found = names.map(|name| name.to_string_lossy().into_owned()).find(|name| !name.starts_with('.'));
    ensure!(
        found.is_none(),
        "{} is not empty ({} is there); give another folder with -o",
        folder.display(),
        found.unwrap_or_default()
    );
    Ok(())
}
