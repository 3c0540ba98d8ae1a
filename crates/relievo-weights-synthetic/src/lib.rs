//! Weights of relievo that learned from synthetic heads alone, as bytes in the program.
//!
//! No photograph of a person was used to train them, so they may be used as the program itself. Load them by name
//! (`Weights::FacesSynthetic`) in the crate `relievo`.

/// A model of human faces, 64x64 pixels: a safetensors file with the model's settings in its metadata, in 8
/// bits with a scale for each channel, without the confidence network.
///
/// An array and not a reference to one, so that whoever names it in a table of its own does not carry it twice.
pub static FACES_SYNTHETIC: [u8; include_bytes!("../weights/faces-synthetic.safetensors").len()] =
    *include_bytes!("../weights/faces-synthetic.safetensors");
