//! Reconstructs the faces of a photograph as textured meshes.
//!
//!     cargo run --release -p relievo --example reconstruct -- photo.jpg
//!
//! writes `face-1.glb`, `face-2.glb`, ... into the working folder, the largest face first. Without a photograph it
//! takes a painted scene of four people from the repository.

use relievo::{Image, Reconstructor, Texture, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/../../apps/relievo/assets/scene.jpg");
    let photograph = std::env::args().nth(1).unwrap_or_else(|| scene.to_owned());

    let reconstructor = Reconstructor::builder().weights(Weights::FacesSynthetic).build()?;
    let faces = reconstructor.reconstruct(&Image::open(&photograph)?)?;
    for (number, face) in faces.iter().enumerate() {
        let file = format!("face-{}.glb", number + 1);
        face.mesh(Texture::Photograph)?.write_glb(&file)?;

        let [pitch, yaw, roll] = face.viewpoint().rotation.map(f32::to_degrees);
        println!("{file}: pitch {pitch:.0}, yaw {yaw:.0}, roll {roll:.0} degrees");
        for doubt in &face.quality().doubts {
            println!("  but {doubt}");
        }
    }
    Ok(())
}
