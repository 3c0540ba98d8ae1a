//! From the names of images to the names of files that are made of them.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use relievo_files::Unreadable;

/// Why results cannot go into a folder.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// It is the folder of the images itself.
    #[error("{} is the folder of the images", .0.display())]
    SameFolder(PathBuf),
    /// One of the folders cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// If the output folder lies inside a folder of images: how names of images in it begin.
///
/// # Errors
/// If they are the same folder, or one cannot be read.
pub fn inside(out: &Path, images: &Path) -> Result<Option<String>, InsideError> {
    if !images.is_dir() {
        return Ok(None);
    }
    let (real_out, images) = (real_path(out)?, real_path(images)?);
    let Ok(below) = real_out.strip_prefix(&images) else { return Ok(None) };
    if below.as_os_str().is_empty() {
        return Err(InsideError::SameFolder(out.to_owned()));
    }
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    Ok(Some(parts.join("/") + "/"))
}

/// The path without links; of a folder that is not there yet, with what is there of it resolved.
///
/// # Errors
/// If what is there cannot be read.
pub fn real_path(path: &Path) -> Result<PathBuf, Unreadable> {
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let mut real = there.canonicalize().map_err(Unreadable::at(path))?;
    real.extend(missing.iter().rev().filter_map(|path| path.file_name()));
    Ok(real)
}

/// An image's name without its ending, as a path that cannot leave the output folder (a name in a tar file may be
/// anything).
pub fn stem(name: &str) -> String {
    let path = Path::new(name).with_extension("");
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => {
                // A hidden file would be found by nobody, and what commands a terminal does so in every list of files.
                let is_strange = |c: char| c == '\\' || c.is_control();
                let name = shortened(part.to_string_lossy().replace(is_strange, "-"));
                Some(if name.starts_with('.') { name.replacen('.', "_", 1) } else { name })
            }
            _ => None,
        })
        .collect();
    if parts.is_empty() { "image".to_owned() } else { parts.join("/") }
}

/// A name that leaves room for endings: file systems take 255 bytes.
fn shortened(mut name: String) -> String {
    const MOST: usize = 200;
    let end = (0..=MOST.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.truncate(end);
    name
}

/// The name, or with a number behind it if results of that name are taken; capitals make no difference, as on some
/// disks.
pub fn unused(stem: &str, taken: &mut HashSet<String>) -> String {
    let mut candidates =
        std::iter::once(stem.to_owned()).chain((2..).map(|number| format!("{stem}-{number}")));
    candidates.find(|name| taken.insert(name.to_lowercase())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_stay_in_the_folder_and_differ() {
        assert_eq!(stem("a/b.c.jpg"), "a/b.c");
        assert_eq!(stem("../../etc/passwd"), "etc/passwd");
        assert_eq!(stem("faces.tar//x.png"), "faces.tar/x");
        assert_eq!([stem(".hidden.jpg"), stem("...jpg"), stem("a/.b/c.png")], ["_hidden", "image", "a/_b/c"]);
        assert_eq!(stem("a/new\nline\x1b[31m.png"), "a/new-line-[31m");
        let long = "ä".repeat(120);
        assert_eq!(stem(&format!("a/{long}.png")), format!("a/{}", &long[..200]));
        let mut taken = HashSet::new();
        let names = ["a", "A", "a-2", "a"].map(|name| unused(name, &mut taken));
        assert_eq!(names, ["a", "A-2", "a-2-2", "a-3"]);
    }

    #[test]
    fn a_folder_in_the_folder_of_images_is_known() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("a/results");
        std::fs::create_dir_all(&out).unwrap();
        assert_eq!(inside(&out, root.path()).unwrap().as_deref(), Some("a/results/"));
        assert_eq!(inside(root.path(), &out).unwrap(), None);
        assert_eq!(inside(&out, &root.path().join("none")).unwrap(), None);
        assert!(matches!(inside(&out, &out), Err(InsideError::SameFolder(_))));
    }
}
