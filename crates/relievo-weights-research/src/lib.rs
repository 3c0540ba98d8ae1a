//! Weights of relievo that learned from photographs, as bytes in the program: **for non-commercial research only**.
//!
//! The photographs (CelebA, photographs of cats) were released for research, so what was learned from them is for
//! research as well; see the file LICENSE. Load them by name (`Weights::Faces`, `Weights::Cats`) in the crate `relievo`
//! with its feature `weights-research`.

/// A model of human faces, 64x64 pixels: a safetensors file with the model's settings in its metadata, in 8
/// bits with a scale for each channel, without the confidence network.
///
/// An array and not a reference to one, so that whoever names it in a table of its own does not carry it twice.
pub static FACES: [u8; include_bytes!("../weights/faces.safetensors").len()] =
    *include_bytes!("../weights/faces.safetensors");

/// A model of cats' faces, likewise.
pub static CATS: [u8; include_bytes!("../weights/cats.safetensors").len()] =
    *include_bytes!("../weights/cats.safetensors");

/// What tells human faces, cats' faces and other things apart, and finds cats' faces: a safetensors file that
/// `relievo_detect::router::Router` reads.
pub static ROUTER: [u8; include_bytes!("../weights/router.safetensors").len()] =
    *include_bytes!("../weights/router.safetensors");
