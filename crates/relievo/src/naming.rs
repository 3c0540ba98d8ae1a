//! Names of results: inside their folder, different from each other, and never over what is to be read.

use std::collections::HashSet;
use std::path::{Component, Path};

/// Names of results that are given out, each once.
#[derive(Debug, Clone, Default)]
pub struct ResultNames {
    taken: HashSet<String>,
}

impl ResultNames {
    /// None given out yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name, or with a number behind it if that is given out already; capitals make no difference, as on some
    /// disks.
    pub fn unused(&mut self, stem: &str) -> String {
        let mut candidates =
            std::iter::once(stem.to_owned()).chain((2..).map(|number| format!("{stem}-{number}")));
        candidates.find(|name| self.taken.insert(name.to_lowercase())).unwrap_or_default()
    }

    /// The name of face `number` (from 0) of an image whose first face has the name `stem`.
    pub fn of_face(&mut self, stem: &str, number: usize) -> String {
        match number {
            0 => stem.to_owned(),
            _ => self.unused(&face_stem(stem, number)),
        }
    }

    /// Whether a name is given out.
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        self.taken.contains(&name.to_lowercase())
    }
}

/// The usual name of face `number` (from 0) of an image, the first of which has the name `stem`.
pub(crate) fn face_stem(stem: &str, number: usize) -> String {
    format!("{stem}.face-{}", number + 1)
}

/// An image's name without its ending, as a path that cannot leave the output folder (a name in a tar file may be
/// anything).
pub fn result_stem(name: &str) -> String {
    let path = Path::new(name).with_extension("");
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => {
                // A hidden file would be found by nobody.
                let name = shortened(part.to_string_lossy().replace(['\\', '\n', '\r'], "-"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_stay_in_the_folder_and_differ() {
        assert_eq!(result_stem("a/b.c.jpg"), "a/b.c");
        assert_eq!(result_stem("../../etc/passwd"), "etc/passwd");
        assert_eq!(result_stem("faces.tar//x.png"), "faces.tar/x");
        let hidden = [".hidden.jpg", "...jpg", "a/.b/c.png"].map(result_stem);
        assert_eq!(hidden, ["_hidden", "image", "a/_b/c"]);
        let long = "ä".repeat(120);
        assert_eq!(result_stem(&format!("a/{long}.png")), format!("a/{}", &long[..200]));
        let mut names = ResultNames::new();
        let unused = ["a", "A", "a-2", "a"].map(|name| names.unused(name));
        assert_eq!(unused, ["a", "A-2", "a-2-2", "a-3"]);
        let faces = [0, 1, 1].map(|number| names.of_face("a", number));
        assert_eq!(faces, ["a", "a.face-2", "a.face-2-2"]);
    }
}
