//! The embedded router: what it says of heads, noise and damaged files, and, if RELIEVO_DATA names a folder that has
//! them, of crops that it has not learned from.

use std::path::PathBuf;
use std::sync::Arc;

use relievo_data::{Holdout, Image, Images, Source, Split};
use relievo_detect::router::{HUMAN_FACE, Router, RouterError};
use relievo_require::{Requirement, skip};
use relievo_synth::Heads;

fn router() -> Router {
    Router::from_safetensors(&relievo_weights_research::ROUTER).unwrap()
}

/// The category of what is most certain in an image, if it is certain enough.
fn taken_for(router: &Router, image: &Image) -> Option<String> {
    let sure = router.look(image).unwrap().into_iter().find(|sighting| router.is_sure(sighting))?;
    Some(router.categories()[sure.category].name.clone())
}

#[test]
fn the_file_is_small_and_reads_back_as_it_was_written() {
    let router = router();
    let bytes = router.to_safetensors();
    assert!(bytes.len() <= 1 << 20 && bytes == relievo_weights_research::ROUTER, "{} bytes", bytes.len());
    let names: Vec<&str> = router.categories().iter().map(|category| category.name.as_str()).collect();
    assert_eq!(names, [HUMAN_FACE, "cat-face"]);
}

#[test]
fn heads_are_hardly_ever_cats_and_noise_is_nothing() {
    let router = router();
    let heads = Heads::range(31, 0, 30);
    let mut cats = Vec::new();
    for index in 0..30 {
        for size in [64, 96, 200] {
            let head = heads.sample(index, size).unwrap().image;
            if taken_for(&router, &head).as_deref() == Some("cat-face") {
                cats.push((index, size));
            }
        }
    }
    // It has never seen a rendered head; of the photographs of people that were held out 0.2 % are cats to it.
    assert!(cats.len() <= 2, "{cats:?}");
    let noise = relievo_tensor::Random::new(1, 2);
    let pixels = (0..200 * 150 * 3).map(|at| noise.bits(at) as u8).collect();
    assert_eq!(taken_for(&router, &Image::from_rgb(200, 150, pixels).unwrap()), None);
    let grey = Image::from_rgb(640, 480, vec![128; 640 * 480 * 3]).unwrap();
    assert_eq!(taken_for(&router, &grey), None);
}

#[test]
fn sightings_do_not_depend_on_the_number_of_threads() {
    let router = router();
    let head = Heads::range(31, 0, 30).sample(3, 150).unwrap().image;
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| router.look(&head).unwrap())
    };
    let one = of(1);
    assert!(!one.is_empty());
    assert_eq!(one, of(3));
}

#[test]
fn a_category_is_made_of_some_images_and_told_from_others() {
    // Checkerboards of a dark and a bright colour, which nothing known looks like.
    let board = |seed: u64, cell: usize| {
        let random = relievo_tensor::Random::new(seed, 9);
        let colours =
            [0, 1].map(|of| [0, 1, 2].map(|channel| (180 * of + random.bits(3 * of + channel) % 70) as u8));
        let pixel = |at: usize| colours[(at % 96 / cell + at / 96 / cell) % 2];
        Image::from_rgb(96, 96, (0..96 * 96).flat_map(pixel).collect()).unwrap()
    };
    let router = router();
    let shown: Vec<Image> = (0..20).map(|seed| board(seed, 12)).collect();
    let (category, recognised) = router.prototype("boards", "model", &shown).unwrap();
    assert!(recognised >= 15, "{recognised}");
    let router = router.with_categories(vec![category.clone()]).unwrap();
    let known = (100..140).filter(|seed| taken_for(&router, &board(*seed, 12)).as_deref() == Some("boards"));
    assert!(known.count() >= 30);
    let heads = Heads::range(31, 0, 30);
    for index in 0..20 {
        let head = heads.sample(index, 96).unwrap().image;
        assert_ne!(taken_for(&router, &head).as_deref(), Some("boards"), "head {index}");
    }
    let taken = router.with_categories(vec![category]).err().unwrap();
    assert!(matches!(taken, RouterError::Category { .. }), "{taken}");
}

#[test]
fn what_is_no_router_is_refused() {
    let bytes = &relievo_weights_research::ROUTER;
    assert!(matches!(Router::from_safetensors(&bytes[..bytes.len() / 2]), Err(RouterError::Read(_))));
    assert!(matches!(Router::from_safetensors(b"PNG"), Err(RouterError::Read(_))));
    let router = router();
    let empty = Image { width: 0, height: 4, pixels: Vec::new() };
    assert!(matches!(router.look(&empty), Err(RouterError::Empty { .. })));
    assert!(matches!(router.prototype("few", "model", &[]), Err(RouterError::TooFew { found: 0 })));
    let mut odd = router.categories()[0].clone();
    odd.name = "odd".into();
    odd.weight.pop();
    assert!(matches!(router.with_categories(vec![odd]), Err(RouterError::Category { .. })));
}

/// Images of an archive in RELIEVO_DATA that no router of ours learned from, by the split of the training.
fn held_out(archive: &str, share: f64) -> Option<Vec<Image>> {
    let path = PathBuf::from(std::env::var("RELIEVO_DATA").ok()?).join(archive);
    let images = path.exists().then(|| Images::open(&[path]).unwrap())?;
    let part = Split::new(Arc::new(images), Holdout::Fraction(share)).unwrap().validation;
    Some((0..part.len().min(300)).map(|index| part.sample(index, 64).unwrap().image).collect())
}

#[test]
fn crops_held_out_go_to_their_pathway() {
    let (Some(cats), Some(faces)) = (held_out("cats-64px.tar", 0.1), held_out("celeba-80px.tar", 0.1)) else {
        return skip(
            Requirement::Data,
            "RELIEVO_DATA names no folder with cats-64px.tar and celeba-80px.tar",
        );
    };
    let router = router();
    let share = |images: &[Image], name: &str| {
        let right = images.iter().filter(|image| taken_for(&router, image).as_deref() == Some(name)).count();
        right as f32 / images.len() as f32
    };
    let (cats, faces) = (share(&cats, "cat-face"), share(&faces, HUMAN_FACE));
    assert!(cats >= 0.97 && faces >= 0.99, "cats {cats}, faces {faces}");
}
