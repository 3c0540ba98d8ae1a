//! How long a library call takes once everything is loaded: from the bytes of a photograph to maps, and to a GLB.
//!
//!     cargo run --release -p relievo --example latency -- photo.jpg
//!
//! prints medians of 15 calls: all faces and the largest one as the networks answer, and the largest one with the default
//! refinement.

use std::time::Instant;

use relievo::{FaceSelection, Image, Reconstructor, Texture};

const CALLS: usize = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a photograph")?;
    let bytes = std::fs::read(&path)?;
    let largest = || Reconstructor::builder().faces(FaceSelection::Largest);
    let choices = [
        ("all faces", Reconstructor::builder().refine(0)),
        ("one face", largest().refine(0)),
        ("one face", largest()),
    ];
    for (which, builder) in choices {
        let reconstructor = builder.build()?;
        let (mut to_maps, mut to_glb, mut steps) = (Vec::new(), Vec::new(), 0);
        for _ in 0..CALLS {
            let start = Instant::now();
            let faces = reconstructor.reconstruct(&Image::decode(&bytes)?)?;
            to_maps.push(milliseconds(start));
            let face = faces.first().ok_or("no face was found")?;
            steps = face.refined();
            face.mesh(Texture::Photograph)?.to_glb("face")?;
            to_glb.push(milliseconds(start));
        }
        let [maps, glb] = [to_maps, to_glb].map(median);
        println!("{which}, {steps} steps of refinement: {maps:.0} ms to maps, {glb:.0} ms to a GLB");
    }
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
