//! Renders the largest face of a photograph from several sides while a light moves around it.
//!
//!     cargo run --release -p relievo --example render -- photo.jpg
//!
//! writes `frame-00.png` to `frame-23.png` into the working folder. Without a photograph it takes a painted scene of
//! four people from the repository.

use relievo::{Camera, Canvas, FaceSelection, Image, Light, Reconstructor, Weights};

const FRAMES: usize = 24;
const SIZE: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/../../apps/relievo/assets/scene.jpg");
    let photograph = std::env::args().nth(1).unwrap_or_else(|| scene.to_owned());

    let reconstructor =
        Reconstructor::builder().weights(Weights::FacesSynthetic).faces(FaceSelection::Largest).build()?;
    let faces = reconstructor.reconstruct(&Image::open(&photograph)?)?;
    for frame in 0..FRAMES {
        let turn = std::f32::consts::TAU * frame as f32 / FRAMES as f32;
        let camera = Camera::yaw(35.0 * turn.sin()).on([32, 32, 36]);
        let light = Light::from_angles(60.0 * turn.cos(), 20.0);
        let image = faces[0].render(&camera, light, SIZE)?;
        Canvas::from_rgb8(&image.pixels, SIZE).write_png(format!("frame-{frame:02}.png"))?;
    }
    println!("{FRAMES} frames, frame-00.png to frame-{:02}.png", FRAMES - 1);
    Ok(())
}
