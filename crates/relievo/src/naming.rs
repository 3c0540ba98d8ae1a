//! Names of results: inside their folder, different from each other, and never over what is to be read.

use std::collections::HashSet;

use relievo_data::naming::unused;

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
        unused(stem, &mut self.taken)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_stay_in_the_folder_and_differ() {
        let mut names = ResultNames::new();
        let unused = ["a", "A", "a-2", "a"].map(|name| names.unused(name));
        assert_eq!(unused, ["a", "A-2", "a-2-2", "a-3"]);
        let faces = [0, 1, 1].map(|number| names.of_face("a", number));
        assert_eq!(faces, ["a", "a.face-2", "a.face-2-2"]);
    }
}
