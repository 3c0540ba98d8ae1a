//! Which images of a source show the same object.

use std::collections::HashMap;

use crate::sample::Source;

/// The images of a source by the objects that they show. An image of which nothing is known is an object by itself.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The images of each object, in the order of the source; objects in the order of their first images.
    images: Vec<Vec<u64>>,
    /// The object of each image.
    of_image: Vec<u64>,
    /// Objects that share the name of their folder with another one elsewhere, and two examples.
    same_names: Option<(u64, [String; 2])>,
}

impl Objects {
    /// Groups the images of a source.
    pub fn of(source: &dyn Source) -> Self {
        let mut images: Vec<Vec<u64>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for index in 0..source.len() {
            let Some(object) = source.object(index) else {
                images.push(vec![index]);
                continue;
            };
            let place = *places.entry(object).or_insert(images.len());
            if place == images.len() {
                images.push(Vec::new());
            }
            images[place].push(index);
        }
        let mut names: Vec<(usize, &String)> = places.iter().map(|(name, place)| (*place, name)).collect();
        names.sort_unstable();
        let mut by_folder: HashMap<&str, &String> = HashMap::new();
        let mut same_names: Option<(u64, [String; 2])> = None;
        for (_, name) in names {
            let folder = name.rsplit('/').next().unwrap_or(name);
            if let Some(first) = by_folder.get(folder) {
                let pair = [(*first).clone(), name.clone()];
                same_names.get_or_insert((0, pair)).0 += 1;
            } else {
                by_folder.insert(folder, name);
            }
        }
        let mut of_image = vec![0; source.len() as usize];
        for (object, images) in (0..).zip(&images) {
            images.iter().for_each(|image| of_image[*image as usize] = object);
        }
        Self { images, of_image, same_names }
    }

    /// Number of objects.
    pub fn len(&self) -> u64 {
        self.images.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The images of object `object < len()`, at least one.
    pub fn images(&self, object: u64) -> &[u64] {
        &self.images[object as usize]
    }

    /// The other images of the object of an image, from the one after it on.
    pub(crate) fn others(&self, image: u64) -> impl Iterator<Item = u64> + '_ {
        let images = self.images(self.of_image[image as usize]);
        let (before, from) = images.split_at(images.partition_point(|other| *other < image));
        from[1..].iter().chain(before).copied()
    }

    /// A description in one line, of objects of a source.
    pub fn describe(&self, source: &dyn Source) -> String {
        format!("{} objects in {}", self.len(), source.describe())
    }

    /// Number of objects with a single image.
    pub fn singles(&self) -> u64 {
        self.images.iter().filter(|images| images.len() == 1).count() as u64
    }

    /// What to know before pairs are made of them, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (all, singles) = (self.len(), self.singles());
        if singles == all {
            warnings.push(
                "no object has more than one image, so each is paired with its mirror image; images of one object go \
                 into one sub-folder"
                    .to_owned(),
            );
        } else if singles > 0 {
            warnings.push(format!(
                "{singles} of {all} objects have a single image, which is paired with its mirror image"
            ));
        }
        if let Some((count, [one, other])) = &self.same_names {
            warnings.push(format!(
                "objects of a name that another one has elsewhere: {count} ({one} and {other}, for example); they count as \
                 different objects, so if they are not, put their images into one folder"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Sample, SampleError};

    /// Images of the objects named here; nothing is known of those with an empty name.
    struct Named(&'static [&'static str]);

    impl Source for Named {
        fn describe(&self) -> String {
            "names".into()
        }
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn object(&self, index: u64) -> Option<String> {
            Some(self.0[index as usize].to_owned()).filter(|name| !name.is_empty())
        }
        fn sample(&self, index: u64, _size: u32) -> Result<Sample, SampleError> {
            Err(SampleError { name: self.name(index), reason: "only a name".into() })
        }
    }

    #[test]
    fn images_are_grouped_in_the_order_of_the_source() {
        let objects = Objects::of(&Named(&["b", "a", "", "b", "", "a", "b"]));
        let images: Vec<&[u64]> = (0..objects.len()).map(|object| objects.images(object)).collect();
        assert_eq!(images, [&[0, 3, 6][..], &[1, 5], &[2], &[4]]);
        assert_eq!(objects.singles(), 2);
        let others = |image| objects.others(image).collect::<Vec<_>>();
        assert_eq!(
            [others(0), others(3), others(6), others(2)],
            [vec![3, 6], vec![6, 0], vec![0, 3], vec![]]
        );
        assert_eq!(
            objects.warnings(),
            ["2 of 4 objects have a single image, which is paired with its mirror image"]
        );
    }

    #[test]
    fn what_is_likely_a_mistake_is_said() {
        let warnings = |names| Objects::of(&Named(names)).warnings().join("\n");
        assert!(warnings(&["", ""]).starts_with("no object has more than one image"));
        assert_eq!(warnings(&["a", "a", "b", "b"]), "");
        let two = warnings(&["x.tar/a", "x.tar/a", "y.tar/a", "y.tar/a", "y.tar/b", "y.tar/b"]);
        assert!(
            two.starts_with("objects of a name that another one has elsewhere: 1 (x.tar/a and y.tar/a, "),
            "{two}"
        );
    }
}
