//! Converts a mesh file to another format, told by the extensions of the names.
//!
//!     cargo run --release -p relievo-mesh --example convert -- scan.ply scan.glb
//!     cargo run --release -p relievo-mesh --example convert -- teapot teapot.obj
//!     cargo run --release -p relievo-mesh --example convert -- icosphere:6 sphere.glb

use std::error::Error;

use relievo_mesh::{Mesh, shapes};

fn main() {
    if let Err(error) = convert() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn convert() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &names[..] else { return Err("two names are needed: convert FROM TO".into()) };
    // A file of that name or, without an extension, a shape and how fine it is.
    let (shape, fineness) = from.split_once(':').unwrap_or((from, ""));
    let fineness = |usual: u32| if fineness.is_empty() { Ok(usual) } else { fineness.parse() };
    let mesh = match shape {
        "teapot" => shapes::teapot(fineness(8)?),
        "icosphere" => shapes::icosphere(fineness(3)?),
        "cube" => shapes::cube(),
        "torus" => shapes::torus(1.0, 0.4, 64, 32),
        _ => Mesh::open(from)?,
    };
    mesh.write(to)?;
    let images = mesh.materials.iter().filter(|material| material.image.is_some()).count();
    println!(
        "{} vertices, {} faces, {} materials, {images} with an image",
        mesh.vertices.len(),
        mesh.faces.len(),
        mesh.materials.len(),
    );
    if let Some([low, high]) = mesh.bounds() {
        println!("from {low:?} to {high:?}");
    }
    Ok(())
}
