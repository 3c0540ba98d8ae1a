//! Scenes in, images out.

use std::collections::BTreeMap;

use relievo_tensor::ops::{ConcatAxis, concat, reshape};
use relievo_tensor::{Error, Result, Tensor};

use crate::attributes::{Nearest, Normals, Per, identify, interpolate, normalised, normals};
use crate::check::shape;
use crate::clip::{BehindCamera, cut};
use crate::cuda::on_device;
use crate::gradients::{Gradient, Softness, antialias, soften};
use crate::light::light_faces;
use crate::raster::{Coverage, Geometry, Part, Samples, cover};
use crate::resolve::{DepthMean, ResolveSettings, Wanted, resolve};
use crate::shade::{Appearance, ImageTexture, Surface, Surfaces, shade};
use crate::{Camera, Faces, Lights, Mesh};

/// An object of a scene.
#[derive(Clone, Debug)]
pub struct Object {
    /// Positions in the world, `[V, 3]`.
    pub vertices: Tensor,
    /// Triangles of them.
    pub faces: Faces,
    /// What they look like.
    pub appearance: Appearance,
}

impl Object {
    /// The objects of a mesh as files hold it, one for each of its materials, with `vertices` `[V, 3]` in place of its own:
    /// watch them to get their gradient.
    ///
    /// Faces with an image and texture coordinates show the image, others the mesh's vertex colours; either times the
    /// material's colour. A face without any of them is white. Colours are taken as they are, without a curve.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]), or `vertices` has another shape.
    pub fn of_mesh(mesh: &Mesh, vertices: &Tensor) -> Result<Vec<Self>> {
        let refused = |detail: String| Error::shape("of_mesh", detail);
        mesh.check().map_err(|error| refused(error.to_string()))?;
        shape("of_mesh", "vertices", vertices, &[mesh.vertices.len(), 3])?;
        let material_of = |face: usize| mesh.face_materials.get(face).copied().flatten();
        let mut by_material: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
        (0..mesh.faces.len()).for_each(|face| by_material.entry(material_of(face)).or_default().push(face));
        let mut objects = Vec::with_capacity(by_material.len());
        for (material, faces) in by_material {
            let material = material.map(|index| &mesh.materials[index as usize]);
            let colour = material.map_or([1.0; 3], |material| material.colour);
            let image = material.and_then(|material| Some((material.image.as_ref()?, material.wrap)));
            let times = |rgb: [f32; 3]| -> [f32; 3] { std::array::from_fn(|k| rgb[k] * colour[k]) };
            let appearance = if let (Some((image, wrap)), Some(texture)) = (image, &mesh.texture_coordinates)
            {
                let pixels =
                    image.rgb.as_chunks::<3>().0.iter().map(|rgb| times(rgb.map(|c| f32::from(c) / 255.0)));
                let pixels: Vec<[f32; 3]> = pixels.collect();
                let corners = faces.iter().map(|face| {
                    texture.faces[*face]
                        .map(|corners| corners.map(|corner| texture.coordinates[corner as usize]))
                });
                Appearance::Image(ImageTexture {
                    image: Tensor::new(pixels.as_flattened(), [image.height, image.width, 3])?,
                    corners: corners.collect(),
                    wrap,
                })
            } else if mesh.vertex_colours.is_none() && colour == [1.0; 3] {
                Appearance::White
            } else {
                let of_vertex =
                    |vertex| mesh.vertex_colours.as_ref().map_or(colour, |colours| times(colours[vertex]));
                let colours: Vec<[f32; 3]> = (0..mesh.vertices.len()).map(of_vertex).collect();
                Appearance::VertexColours(Tensor::new(colours.as_flattened(), [colours.len(), 3])?)
            };
            let faces = Faces::new(faces.iter().map(|face| mesh.faces[*face]).collect::<Vec<_>>());
            objects.push(Self { vertices: vertices.clone(), faces, appearance });
        }
        Ok(objects)
    }
}

/// What is on one image. Scenes of a batch may have different numbers of objects, vertices and faces, and may share tensors.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The objects; they hide each other.
    pub objects: Vec<Object>,
    /// Who sees them.
    pub camera: Camera,
    /// The light on them.
    pub lights: Lights,
}

impl Scene {
    /// One object, in the default light.
    pub fn new(object: Object, camera: Camera) -> Self {
        Self { objects: vec![object], camera, lights: Lights::default() }
    }
}

/// The side of a face that counts for light.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LitSide {
    /// The one that is seen, whatever camera sees it.
    #[default]
    Seen,
    /// The one that the published code takes: the same for cameras of [`crate::View::LookAt`] and [`crate::View::Look`]; the
    /// other one for those of [`Camera::from_matrices`], which do not mirror.
    Winding,
}

/// Which images are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// The silhouette.
    pub alpha: bool,
    /// Colour under light.
    pub colour: bool,
    /// Depth along the axis of the camera.
    pub depth: bool,
    /// Normals, of either kind.
    pub normals: Option<Normals>,
    /// Positions in the world.
    pub positions: bool,
    /// Which face is seen, and where on it.
    pub faces: bool,
}

impl Outputs {
    /// Nothing; to be filled in.
    pub const NONE: Self =
        Self { alpha: false, colour: false, depth: false, normals: None, positions: false, faces: false };
    /// The silhouette alone.
    pub const SILHOUETTE: Self = Self { alpha: true, ..Self::NONE };
    /// Colour alone.
    pub const COLOUR: Self = Self { colour: true, ..Self::NONE };
    /// Colour and silhouette; [`Rendered::rgba`] has them in one tensor.
    pub const RGBA: Self = Self { alpha: true, ..Self::COLOUR };
    /// Depth alone.
    pub const DEPTH: Self = Self { depth: true, ..Self::NONE };
    /// Colour, silhouette and depth.
    pub const RGBA_DEPTH: Self = Self { depth: true, ..Self::RGBA };

    /// Whether something is asked for of the nearest sample of pixels.
    fn of_nearest(self) -> bool {
        self.normals.is_some() || self.positions || self.faces
    }
}

/// The images of a batch of B scenes; `None` where they were not asked for.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// `[B, H, W]`: the share of a pixel that is covered.
    pub alpha: Option<Tensor>,
    /// `[B, H, W, 3]`.
    pub colour: Option<Tensor>,
    /// `[B, H, W]`, in the units of the vertices.
    pub depth: Option<Tensor>,
    /// `[B, H, W, 3]`: unit vectors in the world, on the side that is seen; 0 where there is nothing. Of the nearest sample
    /// of each pixel, not mixed at edges. Gradient: in the vertices, what is seen where held constant.
    pub normals: Option<Tensor>,
    /// `[B, H, W, 3]`: positions in the world; 0 where there is nothing. Otherwise as `normals`.
    pub positions: Option<Tensor>,
    /// `[B, H, W]`: the face that the nearest sample shows, counted through all objects of the scene; -1 where there is
    /// none. No gradient.
    pub face_index: Option<Tensor>,
    /// `[B, H, W, 3]`: its barycentric coordinates on the surface, 0 where there is none. No gradient.
    pub barycentrics: Option<Tensor>,
}

/// A part of an image, made with more samples. What is made of it has no gradient in the vertices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Its first column and row of pixels, counted from the upper left corner.
    pub first: [usize; 2],
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// Samples along a side of a pixel.
    pub per_pixel: usize,
}

impl Window {
    /// Screen positions of the whole image, `of` pixels, as those of this part.
    fn map(&self, screen: &Tensor, of: [usize; 2]) -> Tensor {
        let mut mapped = screen.detach();
        let [(left, width), (top, height)] = [0, 1].map(|k| (self.first[k] as f32, self.size[k] as f32));
        let [of_width, of_height] = of.map(|side| side as f32);
        for [x, y, _] in mapped.data_mut().as_chunks_mut::<3>().0 {
            *x = ((*x + 1.0) * of_width / 2.0 - left) * 2.0 / width - 1.0;
            *y = 1.0 - ((1.0 - *y) * of_height / 2.0 - top) * 2.0 / height;
        }
        mapped
    }
}

impl Rendered {
    /// Colour and silhouette as one tensor `[B, H, W, 4]`; `None` unless both were asked for ([`Outputs::RGBA`]). Colour is
    /// mixed with the background as far as the silhouette does not cover a pixel: with a black one it is premultiplied.
    /// Gradient: as those of both.
    ///
    /// # Errors
    /// If the device fails.
    pub fn rgba(&self) -> Result<Option<Tensor>> {
        let (Some(colour), Some(alpha)) = (&self.colour, &self.alpha) else { return Ok(None) };
        let [batch, height, width, _] = colour.dims("rgba")?;
        let alpha = reshape(alpha, [batch, height, width, 1])?;
        concat(colour, &alpha, ConcatAxis::Channels).map(Some)
    }
}

/// How images are made.
#[derive(Clone, Debug)]
pub struct Renderer {
    /// Columns of pixels, 1 to 16,384.
    pub width: usize,
    /// Rows of pixels, 1 to 16,384.
    pub height: usize,
    /// A pixel is the mean of 2x2 samples rather than one.
    pub anti_aliasing: bool,
    /// Nothing at this depth or nearer is drawn.
    pub near: f32,
    /// Nothing at this depth or further is drawn.
    pub far: f32,
    /// Faces are seen from both sides, rather than only where their corners run counter-clockwise on the image.
    pub fill_back: bool,
    /// What becomes of faces that reach behind the camera.
    pub behind_camera: BehindCamera,
    /// The side of a face that counts for light.
    pub lit_side: LitSide,
    /// How the depth of a pixel is made of those of its samples.
    pub depth_mean: DepthMean,
    /// Colour where there is nothing, `[3]` or `[B, 3]`.
    pub background: Tensor,
    /// How vertices learn what would change if they moved.
    pub gradient: Gradient,
}

/// The longest side of an image in pixels.
const LONGEST: usize = 16_384;

impl Renderer {
    /// A renderer of images of the given size as the published code is by default: 2x2 samples a pixel, depths from 0.1 to
    /// 100, both sides of faces, black background, the gradient of Kato et al.
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            anti_aliasing: true,
            near: 0.1,
            far: 100.0,
            fill_back: true,
            behind_camera: BehindCamera::default(),
            lit_side: LitSide::default(),
            depth_mean: DepthMean::All,
            background: Tensor::zeros([3]),
            gradient: Gradient::default(),
        }
    }

    fn per_pixel(&self) -> usize {
        if self.anti_aliasing { 2 } else { 1 }
    }

    fn check(&self) -> Result<()> {
        let Self { width, height, near, far, .. } = self;
        if ![width, height].iter().all(|side| (1..=LONGEST).contains(*side)) {
            let detail = format!("an image has 1 to {LONGEST} pixels a side, not {width}x{height}");
            return Err(Error::shape("render", detail));
        }
        if !(*near > 0.0 && near < far && far.is_finite()) {
            let detail = format!("near must be above 0 and far above near, not {near} and {far}");
            return Err(Error::shape("render", detail));
        }
        self.gradient.check()
    }

    /// The images of a batch of scenes.
    ///
    /// They are made where the vertices of the objects are: on a GPU if these and the colours and images of objects are
    /// there. Cameras, lights and the background may stay on the CPU; so do their gradients.
    ///
    /// All images come from one raster, and gradients of all of them are added up before edges ask what they would change:
    /// with [`Gradient::Kato`] that is not the same as asking for each and adding up afterwards.
    ///
    /// # Errors
    /// If a shape or an index does not fit, or a camera is impossible.
    pub fn render(&self, scenes: &[Scene], outputs: Outputs) -> Result<Rendered> {
        self.draw(scenes, outputs, None)
    }

    /// The images, or a part of each.
    pub(crate) fn draw(
        &self,
        scenes: &[Scene],
        outputs: Outputs,
        window: Option<Window>,
    ) -> Result<Rendered> {
        self.check()?;
        if scenes.is_empty() {
            return Err(Error::shape("render", "there is no scene"));
        }
        let (mut geometries, mut screens, mut surfaces) = (Vec::new(), Vec::new(), Vec::new());
        for scene in scenes {
            let mut parts = Vec::with_capacity(scene.objects.len());
            for object in &scene.objects {
                let (screen, part) = self.on_screen(object, &scene.camera)?;
                screens.push(match window {
                    Some(window) => window.map(&screen, [self.width, self.height]),
                    None => screen,
                });
                parts.push(part);
                if outputs.colour {
                    surfaces.push(self.surface(object, scene)?);
                }
            }
            geometries.push(Geometry::new(parts, self.fill_back)?);
        }
        let whole = Window { first: [0; 2], size: [self.width, self.height], per_pixel: self.per_pixel() };
        let Window { size: [width, height], per_pixel, .. } = window.unwrap_or(whole);
        let samples = Samples { columns: width * per_pixel, rows: height * per_pixel };
        let keep_depth = outputs.depth || outputs.of_nearest();
        let coverage = cover(geometries, &screens, samples, [self.near, self.far], keep_depth)?;
        let mut rendered = match outputs.of_nearest() {
            true => self.nearest(scenes, outputs, coverage.clone())?,
            false => Rendered::default(),
        };
        let surfaces = outputs.colour.then_some(&surfaces[..]);
        [rendered.alpha, rendered.colour, rendered.depth] =
            self.of_samples(coverage, &screens, surfaces, outputs, per_pixel)?;
        Ok(rendered)
    }

    /// Alpha, colour and depth, as far as they are asked for. There are `surfaces` if colour is.
    fn of_samples(
        &self,
        coverage: Coverage,
        screens: &[Tensor],
        surfaces: Option<&[Surface]>,
        outputs: Outputs,
        per_pixel: usize,
    ) -> Result<[Option<Tensor>; 3]> {
        let mut wanted = Wanted { alpha: outputs.alpha, colour: outputs.colour, depth: outputs.depth };
        let background = on_device(&self.background, coverage.numbers.device())?;
        let hard = |surfaces: Option<&[Surface]>| {
            surfaces.map(|surfaces| shade(coverage.clone(), surfaces, &background)).transpose()
        };
        // Images that change with the gradient are made apart; of theirs, only depth is that of samples.
        let (mut colours, mut apart) = (None, [None, None]);
        match self.gradient {
            Gradient::Soft { sigma } => {
                let softness = Softness { sigma, near_far: [self.near, self.far], per_pixel };
                let surfaces = surfaces.map(|surfaces| (surfaces, &background));
                apart = soften(&coverage, screens, outputs.alpha, surfaces, softness)?;
            }
            Gradient::Antialias => {
                let colours = hard(surfaces)?;
                apart = antialias(&coverage, screens, outputs.alpha, colours.as_ref(), per_pixel)?;
            }
            _ => colours = hard(surfaces)?,
        }
        if matches!(self.gradient, Gradient::Soft { .. } | Gradient::Antialias) {
            (wanted.alpha, wanted.colour) = (false, false);
        }
        if wanted == Wanted::default() {
            let [alpha, colour] = apart;
            return Ok([alpha, colour, None]);
        }
        let settings = ResolveSettings {
            per_pixel,
            wanted,
            near: self.near,
            far: self.far,
            depth_mean: self.depth_mean,
            gradient: self.gradient,
        };
        let between_samples = match (surfaces, self.gradient.places()) {
            (Some(surfaces), Some(_)) => Some(Surfaces::new(surfaces, &background)?),
            _ => None,
        };
        let [alpha, colour, depth] = resolve(coverage, settings, screens, colours.as_ref(), between_samples)?;
        let [of_alpha, of_colour] = apart;
        Ok([alpha.or(of_alpha), colour.or(of_colour), depth])
    }

    /// What the nearest samples show.
    fn nearest(&self, scenes: &[Scene], outputs: Outputs, coverage: Coverage) -> Result<Rendered> {
        let objects =
            || scenes.iter().flat_map(|scene| scene.objects.iter().map(move |object| (scene, object)));
        let faces = objects().map(|(_, object)| object.faces.clone()).collect();
        let nearest = Nearest::new(coverage, self.per_pixel(), faces)?;
        let mut rendered = Rendered::default();
        if let Some(kind) = outputs.normals {
            let of_object = |(scene, object): (&Scene, &Object)| {
                normals(&object.vertices, &object.faces, kind, !scene.camera.mirrors()?)
            };
            let list = objects().map(of_object).collect::<Result<Vec<_>>>()?;
            rendered.normals = Some(match kind {
                Normals::Faces => interpolate(&nearest, Per::Face, true, &list)?,
                Normals::Smooth => normalised(&interpolate(&nearest, Per::Vertex, true, &list)?)?,
            });
        }
        if outputs.positions {
            let list: Vec<Tensor> = objects().map(|(_, object)| object.vertices.clone()).collect();
            rendered.positions = Some(interpolate(&nearest, Per::Vertex, false, &list)?);
        }
        if outputs.faces {
            [rendered.face_index, rendered.barycentrics] = identify(&nearest)?.map(Some);
        }
        Ok(rendered)
    }

    /// An object's vertices on the screen, and the faces to draw.
    fn on_screen(&self, object: &Object, camera: &Camera) -> Result<(Tensor, Part)> {
        let seen = camera.view(&object.vertices)?;
        let (seen, part) = cut(&seen, &object.faces, self.near, self.behind_camera)?;
        let screen = camera.project(&seen, self.width as f32 / self.height as f32)?;
        Ok((screen, part))
    }

    /// An object with its light.
    fn surface(&self, object: &Object, scene: &Scene) -> Result<Surface> {
        let flipped = self.lit_side == LitSide::Seen && !scene.camera.mirrors()?;
        let light = light_faces(&object.vertices, &object.faces, &scene.lights, self.fill_back, flipped)?;
        let vertices = object.vertices.shape()[0];
        Ok(Surface { faces: object.faces.clone(), vertices, appearance: object.appearance.clone(), light })
    }
}
