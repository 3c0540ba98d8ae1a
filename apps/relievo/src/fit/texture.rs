//! `relievo fit texture`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use relievo_export::Canvas;
use relievo_fit::{Paint, TextureSettings, TextureView, fit_texture};
use relievo_mesh::stage::{CalibratedCamera, Look, Orbit, Stage};
use relievo_mesh::{
    Appearance, Faces, Image, ImageTexture, Lights, Material, Mesh, Object, Outputs, Renderer, Scene, Wrap,
};
use relievo_tensor::Tensor;
use serde_json::json;

use super::images::{colours, paired, row};
use super::vertices::example_mesh;
use super::{Common, Report};
use crate::console::Console;

/// Find the colours of a mesh in images of it
///
/// Without files: the teapot, painted, from 16 views. The images are in the order
/// of the cameras and of one size; only pixels that the mesh covers count. Light
/// stays in the colours. The result is mesh.glb: with an image if the mesh has
/// texture coordinates, otherwise with a tile of an image for each face, or, for
/// more than 20,000 faces, with colours of vertices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Mesh file, or teapot
    #[arg(value_name = "MESH", default_value = "teapot")]
    mesh: PathBuf,
    /// Folder of images [default: an example]
    #[arg(long, value_name = "FOLDER", requires = "cameras")]
    images: Option<PathBuf>,
    /// JSON file of their cameras, as for `relievo render`
    #[arg(long, value_name = "FILE", requires = "images")]
    cameras: Option<PathBuf>,
    /// Rows and columns of the image of a mesh with texture coordinates
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = clap::value_parser!(u16).range(16..=8192))]
    texture_size: u16,
    #[command(flatten)]
    common: Common,
}

/// Rows and columns of the example.
const SIDE: usize = 160;

/// Meshes with more faces get colours of vertices.
const MOST_TILES: usize = 20_000;

/// Texels along the axes of a face's cube, those of the published example.
const TEXELS: usize = 4;

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let mesh = example_mesh(&options.mesh)?;
    let stage = Stage::new(&mesh, &Look::default())?;
    let (middle, unit) = (stage.middle(), stage.extent());
    let centred = mesh.vertices.iter().map(|vertex| -> [f32; 3] {
        std::array::from_fn(|axis| ((f64::from(vertex[axis]) - middle[axis]) / unit) as f32)
    });
    let points: Vec<[f32; 3]> = centred.collect();
    let vertices = Tensor::new(points.as_flattened(), [points.len(), 3])?;
    let faces = Faces::new(mesh.faces.clone());
    let views = match (&options.images, &options.cameras) {
        (Some(folder), Some(cameras)) => {
            let view = |(path, camera): (PathBuf, CalibratedCamera)| {
                let camera = camera.moved(middle, unit).camera();
                Ok(TextureView { camera, image: colours(&path)?, mask: None })
            };
            paired(folder, cameras)?.into_iter().map(view).collect::<anyhow::Result<Vec<_>>>()?
        }
        _ => example(&stage, &points, &vertices, &faces)?,
    };
    let paint = paint_for(&mesh, options);
    let mut settings = TextureSettings::default();
    settings.steps = options.common.steps.unwrap_or(settings.steps);
    settings.fit.learning_rate = options.common.learning_rate.unwrap_or(settings.fit.learning_rate);
    let [height, width, _] = views[0].image.dims("image")?;
    let renderer = Renderer { background: Tensor::full([3], 1.0), ..Renderer::new(width, height) };
    let shown = [0, views.len() / 3, 2 * views.len() / 3];
    let drawn = |appearance: Appearance| -> anyhow::Result<Canvas> {
        let object = Object { vertices: vertices.clone(), faces: faces.clone(), appearance };
        let scene = |view: usize| Scene {
            lights: Lights::none(),
            ..Scene::new(object.clone(), views[view].camera.clone())
        };
        let colour = renderer.render(&shown.map(scene), Outputs::COLOUR)?.colour;
        let colour = colour.context("an image without colours")?;
        let found = colour.data().chunks(width * height * 3);
        let images: Vec<Canvas> = found.map(|image| Canvas::from_unit(image, width)).collect();
        Ok(row(&images))
    };
    let mut report = Report::new(console, settings.steps);
    let appearance = fit_texture(&vertices, &faces, &paint, &views, &settings, |step| {
        report.step(step, || drawn(paint.appearance(step.parameters[0].clone())));
        ControlFlow::Continue(())
    })?;
    let out = &options.common.out;
    painted(&mesh, &appearance)?.write(out.join("mesh.glb"))?;
    let record = json!({ "images": views.len(), "learning-rate": settings.fit.learning_rate });
    report.finish(out, "texture: error of the images", "mean squared difference", record, console)
}

/// What colours of this mesh are kept in.
fn paint_for(mesh: &Mesh, options: &Options) -> Paint {
    let side = usize::from(options.texture_size);
    match &mesh.texture_coordinates {
        Some(texture) if options.images.is_some() => {
            let corners = texture.faces.iter().map(|corners| {
                corners.map(|corners| corners.map(|corner| texture.coordinates[corner as usize]))
            });
            Paint::Image(ImageTexture {
                image: Tensor::full([side, side, 3], 0.5),
                corners: corners.collect(),
                wrap: [Wrap::Repeat; 2],
            })
        }
        _ if mesh.faces.len() <= MOST_TILES => Paint::Cubes(TEXELS),
        _ => Paint::Vertices,
    }
}

/// The mesh with the colours that were found, for files.
fn painted(mesh: &Mesh, appearance: &Appearance) -> anyhow::Result<Mesh> {
    let bare =
        Mesh { vertex_colours: None, materials: Vec::new(), face_materials: Vec::new(), ..mesh.clone() };
    let mut painted = match appearance {
        Appearance::Cubes(cubes) => bare.with_texture_tiles(cubes)?,
        Appearance::Image(texture) => {
            let [height, width, _] = texture.image.dims("texture")?;
            let rgb = Canvas::from_unit(texture.image.data(), width).bytes().to_vec();
            let image = Some(Arc::new(Image { width, height, rgb }));
            let material =
                Material { name: "fitted".into(), image, wrap: texture.wrap, ..Material::default() };
            Mesh { materials: vec![material], face_materials: vec![Some(0); mesh.faces.len()], ..bare }
        }
        Appearance::VertexColours(colours) => {
            Mesh { vertex_colours: Some(colours.data().as_chunks::<3>().0.to_vec()), ..bare }
        }
        Appearance::White => bare,
    };
    // The images' light is in the colours.
    painted.materials.iter_mut().for_each(|material| material.unlit = true);
    Ok(painted)
}

/// A painted mesh from two heights.
fn example(
    stage: &Stage,
    points: &[[f32; 3]],
    vertices: &Tensor,
    faces: &Faces,
) -> anyhow::Result<Vec<TextureView>> {
    let colours: Vec<[f32; 3]> = points.iter().map(|point| glaze(*point)).collect();
    let mut cubes = Tensor::zeros([faces.len(), TEXELS, TEXELS, TEXELS, 3]);
    let texels = cubes.data_mut().as_chunks_mut::<3>().0.chunks_exact_mut(TEXELS.pow(3));
    for (texels, face) in texels.zip(faces.as_slice()) {
        for (at, texel) in texels.iter_mut().enumerate() {
            let weights = [at / (TEXELS * TEXELS), at / TEXELS % TEXELS, at % TEXELS];
            let sum = weights.iter().sum::<usize>().max(1) as f32;
            let place = std::array::from_fn(|axis| {
                let corner = |k: usize| points[face[k] as usize][axis] * weights[k] as f32 / sum;
                corner(0) + corner(1) + corner(2)
            });
            *texel = if at == 0 { colours[face[0] as usize] } else { glaze(place) };
        }
    }
    let object =
        Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::Cubes(cubes) };
    let renderer = Renderer::new(SIDE, SIDE);
    let orbits: Vec<Orbit> = (0..16u8)
        .map(|view| Orbit {
            azimuth: 45.0 * f64::from(view % 8) + 22.5 * f64::from(view / 8),
            elevation: if view < 8 { 30.0 } else { -15.0 },
            ..Orbit::default()
        })
        .collect();
    let view = |orbit: &Orbit| {
        let camera = stage.calibrated(orbit, [SIDE, SIDE])?.moved(stage.middle(), stage.extent()).camera();
        let scene = Scene { lights: Lights::none(), ..Scene::new(object.clone(), camera.clone()) };
        let image = renderer.render(&[scene], Outputs::COLOUR)?.colour.context("an image without colours")?;
        Ok(TextureView { camera, image: Tensor::new(image.data(), [SIDE, SIDE, 3])?, mask: None })
    };
    stage.framed(&orbits, 1.0)?.iter().map(view).collect()
}

/// The paint of the example: bands of glaze around the pot, with dots.
fn glaze([x, y, z]: [f32; 3]) -> [f32; 3] {
    const GROUND: [f32; 3] = [0.93, 0.88, 0.78];
    const BLUE: [f32; 3] = [0.13, 0.3, 0.55];
    const RUST: [f32; 3] = [0.75, 0.33, 0.18];
    let turn = z.atan2(x);
    let wave = y + 0.03 * (8.0 * turn).sin();
    let smooth = |edge: f32, value: f32| (0.5 + (value - edge) / 0.03).clamp(0.0, 1.0);
    let band = |low: f32, high: f32| smooth(low, wave) * (1.0 - smooth(high, wave));
    let blue = band(0.14, 0.24).max(band(-0.42, -0.34));
    let dots = smooth(0.6, (10.0 * turn).cos() * (1.0 - ((y + 0.08) / 0.09).powi(2)).max(0.0));
    let mix = |a: [f32; 3], b: [f32; 3], share: f32| std::array::from_fn(|k| a[k] + (b[k] - a[k]) * share);
    mix(mix(GROUND, BLUE, blue), RUST, dots)
}
