//! Objects: sub-folders, and folders in archives, of which some images cannot be used.

use std::sync::Arc;

use relievo_data::{Loader, LoaderOptions, Objects, Training};

use super::sources::{archive, put};
use super::*;

/// One colour, in a file of these sides.
fn plain(colour: [u8; 3], width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    encode(RgbImage::from_pixel(width, height, Rgb(colour)), format)
}

#[test]
fn objects_with_bad_images_none_and_other_sizes_make_pairs_of_what_is_left() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| put(&place.path().join(name), bytes);
    let (red, blue) = ([220, 10, 10], [10, 10, 220]);
    // Of three sizes and shapes, and one that is no image.
    write("anna/0.png", &plain(red, 8, 8, ImageFormat::Png));
    write("anna/1.jpg", &plain(red, 90, 50, ImageFormat::Jpeg));
    write("anna/2.png", &plain(red, 33, 200, ImageFormat::Png));
    write("anna/3.png", b"no image at all");
    // None that can be read.
    write("bert/0.png", &plain(blue, 16, 16, ImageFormat::Png)[..60]);
    write("bert/1.jpg", b"nor here");
    write("carl/0.png", &plain(blue, 64, 64, ImageFormat::Png));
    // None at all.
    fs::create_dir(place.path().join("dora")).unwrap();
    write("emil/notes.txt", b"no images here");

    let source: Arc<dyn Source> = Arc::new(Images::open(&[place.path()]).unwrap());
    let objects = Objects::of(&*source);
    assert_eq!((objects.len(), objects.singles()), (3, 1), "{}", objects.describe(&*source));
    let options = LoaderOptions { pairs: true, ..LoaderOptions::new(2, 16) };
    let mut loader = Loader::training(source, options, Training::default()).unwrap();
    let mut seen = [0, 0];
    for batch in loader.by_ref().take(20).map(Result::unwrap) {
        let partners = batch.partners.unwrap();
        assert_eq!(batch.images.shape(), partners.shape());
        for (number, name) in batch.names.iter().enumerate() {
            let colours = [&batch.images, &partners].map(|images| {
                let [first, _, last] = images.data()[number * 16 * 16 * 3..].first_chunk().unwrap();
                (*first > 0.0, *last > 0.0)
            });
            // Both of one object: red ones are Anna's, blue ones Carl's.
            let is_anna = name.contains("anna");
            assert!(is_anna || name.contains("carl"), "{name}");
            assert_eq!(colours, [(is_anna, !is_anna); 2], "{name}");
            seen[usize::from(is_anna)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    // Each that cannot be used is named once.
    let skipped = loader.skipped();
    let mut names: Vec<&str> = skipped.iter().filter_map(|bad| bad.name.rsplit(['/', '\\']).nth(1)).collect();
    names.sort_unstable();
    assert_eq!(names, ["anna", "bert", "bert"], "{skipped:?}");
}

#[test]
fn objects_of_one_name_in_two_archives_are_two_and_it_is_said() {
    let place = tempfile::tempdir().unwrap();
    let paths = ["x.tar", "y.tar"].map(|name| place.path().join(name));
    let image = plain([9; 3], 8, 8, ImageFormat::Png);
    for path in &paths {
        put(path, &archive(&[("anna/0.png", &image), ("anna/1.png", &image)]));
    }
    let source = Images::open(&paths).unwrap();
    let objects = Objects::of(&source);
    assert_eq!((objects.len(), objects.singles()), (2, 0));
    let warnings = objects.warnings().join("\n");
    assert!(warnings.contains("x.tar/anna and ") && warnings.contains("y.tar/anna"), "{warnings}");
}
