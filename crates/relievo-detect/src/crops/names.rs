//! Names of crops.

use std::collections::HashSet;

use relievo_data::naming::unused;

/// The stems, with numbers behind those that are taken, or that may be names of another one's further faces.
pub(super) fn distinct(stems: Vec<String>) -> Vec<String> {
    let all: HashSet<String> = stems.iter().map(|stem| stem.to_lowercase()).collect();
    let is_further_face = |stem: &str| {
        let parts = stem.rsplit_once(".face-");
        parts.is_some_and(|(other, number)| {
            all.contains(&other.to_lowercase()) && number.parse::<u64>().is_ok()
        })
    };
    let mut taken = HashSet::new();
    let name = |stem: String| {
        let stem = if is_further_face(&stem) { format!("{stem}.image") } else { stem };
        unused(&stem, &mut taken)
    };
    stems.into_iter().map(name).collect()
}

/// The name of an input's crop: further faces than the first have their number in it.
pub(super) fn crop_name(stem: &str, number: usize) -> String {
    match number {
        0 => format!("{stem}.png"),
        _ => format!("{stem}.face-{}.png", number + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crops_differ() {
        let stems = ["a", "A", "a.face-2", "b.face-2"].map(str::to_owned).to_vec();
        let names = distinct(stems);
        assert_eq!(names, ["a", "A-2", "a.face-2.image", "b.face-2"]);
        assert_eq!([0, 1].map(|number| crop_name("a", number)), ["a.png", "a.face-2.png"]);
    }
}
