//! Runs one of ten hot paths a number of times on one thread: `instructions NAME TIMES`; without arguments it lists the
//! names. `bench/instructions.sh` has Valgrind count the instructions of two runs, one of which repeats the path once more:
//! the difference is that path, whatever the beginning costs.

use std::error::Error;
use std::hint::black_box;

use relievo::{FaceSelection, Image, Reconstructor, Texture, Weights};
use relievo_data::{Rectangle, Source as _};
use relievo_detect::Detector;
use relievo_mesh::{Appearance, Camera, Faces, Object, Outputs, Renderer, Scene, points_from_angles, shapes};
use relievo_model::{Model, ModelSettings, Objective};
use relievo_synth::Heads;
use relievo_tensor::ops::{Activation, ConvParams, conv2d};
use relievo_tensor::{Tape, Tensor};

static SCENE: &[u8] = include_bytes!("../../../apps/relievo/assets/scene.jpg");

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is repeated; the beginning is behind it.
type Path = Box<dyn FnMut() -> Result<()>>;

/// Prepares a path.
type Preparation = fn() -> Result<Path>;

const PATHS: [(&str, Preparation); 10] = [
    ("convolution-and-gradients", convolution),
    ("decode-and-shrink", decode),
    ("detector", detector),
    ("glb", glb),
    ("heads", heads),
    ("mesh-and-gradient", mesh),
    ("networks", networks),
    ("refinement", refinement),
    ("training-step", training_step),
    ("weights", weights),
];

/// Numbers in -1..1 that look random.
fn noise<const N: usize>(shape: [usize; N]) -> Result<Tensor> {
    let values = (0..shape.iter().product()).map(|at: usize| (at as f32 * 12.9898).sin());
    Ok(Tensor::new(&values.collect::<Vec<_>>(), shape)?)
}

/// A layer of 3x3 and 64 channels, forward and both gradients.
fn convolution() -> Result<Path> {
    let (x, weight) = (noise([1, 32, 32, 64])?, noise([64, 3, 3, 64])?);
    Ok(Box::new(move || {
        let tape = Tape::new();
        let (x, weight) = (tape.watch(&x), tape.watch(&weight));
        let y = conv2d(&x, &weight, None, ConvParams::new(1, 1, Activation::Identity))?;
        let dy = Tensor::full([1, 32, 32, 64], 1.0);
        black_box(tape.backward_from(&[(&y, dy)])?);
        Ok(())
    }))
}

/// A JPEG of a megapixel, and the detector's first look at it.
fn decode() -> Result<Path> {
    Ok(Box::new(|| {
        let image = Image::decode(SCENE)?;
        let whole = Rectangle { left: 0.0, top: 0.0, width: image.width.into(), height: image.height.into() };
        black_box(image.resampled(whole, 384, 256));
        Ok(())
    }))
}

/// The detector's network.
fn detector() -> Result<Path> {
    let (detector, image) = (Detector::new()?, noise([1, 128, 192, 3])?);
    Ok(Box::new(move || {
        black_box(detector.network_output(&image)?);
        Ok(())
    }))
}

/// A reconstruction's textured mesh as GLB.
fn glb() -> Result<Path> {
    let reconstructor = Reconstructor::builder().weights(Weights::FacesSynthetic);
    let reconstructor = reconstructor.faces(FaceSelection::Largest).refine(0).build()?;
    let face = reconstructor.reconstruct(&Image::decode(SCENE)?)?.swap_remove(0);
    Ok(Box::new(move || {
        black_box(face.mesh(Texture::Photograph)?.to_glb("face")?);
        Ok(())
    }))
}

/// A synthetic head with its truth.
fn heads() -> Result<Path> {
    let heads = Heads::range(0, 0, 2);
    Ok(Box::new(move || {
        black_box(heads.sample(1, 64)?);
        Ok(())
    }))
}

/// A silhouette and the gradient of its vertices.
fn mesh() -> Result<Path> {
    let sphere = shapes::icosphere(3);
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3])?;
    let [distance, elevation, azimuth] = [2.7, 30.0, 30.0].map(Tensor::scalar);
    let camera = Camera::looking_at_origin(points_from_angles(&distance, &elevation, &azimuth)?);
    let (faces, renderer) = (Faces::new(sphere.faces), Renderer::new(128, 128));
    Ok(Box::new(move || {
        let tape = Tape::new();
        let object =
            Object { vertices: tape.watch(&vertices), faces: faces.clone(), appearance: Appearance::White };
        let rendered = renderer.render(&[Scene::new(object, camera.clone())], Outputs::SILHOUETTE)?;
        let alpha = rendered.alpha.ok_or("no silhouette")?;
        black_box(tape.backward_from(&[(&alpha, noise([1, 128, 128])?)])?);
        Ok(())
    }))
}

/// The four networks on one image.
fn networks() -> Result<Path> {
    let (model, image) = (Weights::FacesSynthetic.load()?.model, noise([1, 64, 64, 3])?);
    Ok(Box::new(move || {
        black_box(model.outputs(&image, model.parameters())?);
        Ok(())
    }))
}

/// Two steps of refinement.
fn refinement() -> Result<Path> {
    let (model, image) = (Weights::FacesSynthetic.load()?.model, noise([1, 64, 64, 3])?);
    let prediction = model.predict(&image)?;
    Ok(Box::new(move || {
        black_box(model.refine(&image, &prediction, 2)?);
        Ok(())
    }))
}

/// Loss and gradients of narrow networks on two images, without the perceptual loss.
fn training_step() -> Result<Path> {
    let model = Model::new(ModelSettings::tiny(), 0)?;
    let images = noise([2, model.settings().image_size, model.settings().image_size, 3])?;
    Ok(Box::new(move || {
        black_box(model.loss_and_gradients(&images, Objective::from(0.5))?);
        Ok(())
    }))
}

/// Weights of the program unpacked.
fn weights() -> Result<Path> {
    Ok(Box::new(|| {
        black_box(Weights::FacesSynthetic.load()?);
        Ok(())
    }))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &arguments[..] else {
        PATHS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    // This thread is the pool: nothing waits, and nothing depends on who comes first.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let (_, prepare) = PATHS.iter().find(|(path, _)| path == name).ok_or("no such path")?;
    let mut path = prepare()?;
    (0..times.parse()?).try_for_each(|_: u32| path())
}
