//! Scenes in, images out.

use relievo_tensor::{Error, Result, Tensor};

use crate::clip::{BehindCamera, cut};
use crate::light::light_faces;
use crate::raster::{Geometry, Part, Samples, cover};
use crate::resolve::{DepthMean, Gradient, Wanted, resolve};
use crate::shade::{Appearance, Surface, shade};
use crate::{Camera, Faces, Lights};

/// An object of a scene.
#[derive(Clone, Debug)]
pub struct Object {
    /// Places in the world, `[V, 3]`.
    pub vertices: Tensor,
    /// Triangles of them.
    pub faces: Faces,
    /// What they look like.
    pub appearance: Appearance,
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
}

impl Outputs {
    /// The silhouette alone.
    pub const SILHOUETTE: Self = Self { alpha: true, colour: false, depth: false };
    /// Colour alone.
    pub const COLOUR: Self = Self { alpha: false, colour: true, depth: false };
    /// Depth alone.
    pub const DEPTH: Self = Self { alpha: false, colour: false, depth: true };
    /// Colour, silhouette and depth.
    pub const ALL: Self = Self { alpha: true, colour: true, depth: true };
}

/// The images of a batch of B scenes; `None` where they were not asked for.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// `[B, H, W]`: the share of a pixel that is covered.
    pub alpha: Option<Tensor>,
    /// `[B, H, W, 3]`.
    pub colour: Option<Tensor>,
    /// `[B, H, W]`, in the units of the vertices.
    pub depth: Option<Tensor>,
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
        Ok(())
    }

    /// The images of a batch of scenes.
    ///
    /// All images come from one raster, and gradients of all of them are added up before edges ask what they would change:
    /// with [`Gradient::Kato`] that is not the same as asking for each and adding up afterwards.
    ///
    /// # Errors
    /// If a shape or an index does not fit, or a camera is impossible.
    pub fn render(&self, scenes: &[Scene], outputs: Outputs) -> Result<Rendered> {
        self.check()?;
        if scenes.is_empty() {
            return Err(Error::shape("render", "there is no scene"));
        }
        let (mut geometries, mut screens, mut surfaces) = (Vec::new(), Vec::new(), Vec::new());
        for scene in scenes {
            let mut parts = Vec::with_capacity(scene.objects.len());
            for object in &scene.objects {
                let (screen, part) = self.on_screen(object, &scene.camera)?;
                screens.push(screen);
                parts.push(part);
                if outputs.colour {
                    surfaces.push(self.surface(object, scene)?);
                }
            }
            geometries.push(Geometry::new(parts, self.fill_back)?);
        }
        let per_pixel = self.per_pixel();
        let samples = Samples { columns: self.width * per_pixel, rows: self.height * per_pixel };
        let coverage = cover(geometries, &screens, samples, [self.near, self.far], outputs.depth)?;
        let colours = match outputs.colour {
            true => Some(shade(coverage.clone(), &surfaces, &self.background)?),
            false => None,
        };
        let Outputs { alpha, colour, depth } = outputs;
        let wanted = Wanted { alpha, colour, depth };
        let [alpha, colour, depth] =
            resolve(coverage, per_pixel, wanted, self.depth_mean, self.gradient, &screens, colours.as_ref())?;
        Ok(Rendered { alpha, colour, depth })
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
