//! What a model made of one face, or of one image.

use std::sync::Arc;

use relievo_data::{Image, Light};
use relievo_detect::FaceLocation;
use relievo_export::Canvas;
use relievo_model::{
    FRAME, FineImage, ImageTexture, ModelSettings, Prediction, TextureParts, image_texture, object_level,
};
use relievo_render::{ViewSettings, Views, render_cut_views};
use relievo_tensor::Tensor;

use crate::Result;
use crate::camera::Camera;
use crate::lighting::Lighting;
use crate::map::Map;
use crate::mesh::{LEAST_TEXTURE, Mesh, MeshOptions};
use crate::quality::Quality;
use crate::routing::Route;

/// The viewpoint of an image: how the object is turned and moved from the canonical view (that of the object seen from
/// the front), P' = Rz Ry Rx (P - c) + c + t with c = (0, 0, 1).
///
/// Camera frame: x right, y down, z away from the camera; the unit is the distance from the camera to the object.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Viewpoint {
    /// Radians about x, y and z.
    pub rotation: [f32; 3],
    /// Translation along x, y and z.
    pub translation: [f32; 3],
}

/// The shape, colour, light and viewpoint of one face (or of one image that was taken as it is).
///
/// Maps are views of the model's own memory, S x S pixels, S being [`Reconstruction::size`]. Those of one batch share
/// their memory, which is freed with the last of them. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    pub(crate) settings: Arc<ModelSettings>,
    /// Of the whole batch.
    pub(crate) prediction: Arc<Prediction>,
    /// Which of the batch.
    pub(crate) number: usize,
    pub(crate) crop: Arc<Image>,
    /// Other photographs of the object that its pixels come from: which of the batch, and the crop.
    pub(crate) others: Arc<[(usize, Arc<Image>)]>,
    pub(crate) location: Option<FaceLocation>,
    pub(crate) route: Option<Route>,
    pub(crate) refined: u16,
    pub(crate) quality: Quality,
}

impl Reconstruction {
    /// Rows and columns of every map.
    pub fn size(&self) -> usize {
        self.settings.image_size
    }

    /// Depth in the view of the photograph (the z coordinate); where [`Reconstruction::mask`] is 0, at edges that the
    /// turned surface does not reach, it is continued from where it is 1.
    pub fn depth(&self) -> Map<'_, f32> {
        self.scalars(&self.prediction.depth)
    }

    /// 1 where the object is seen in the photograph, 0 elsewhere.
    pub fn mask(&self) -> Map<'_, f32> {
        self.scalars(&self.prediction.mask)
    }

    /// Depth as seen from the front.
    pub fn canonical_depth(&self) -> Map<'_, f32> {
        self.scalars(&self.prediction.canonical_depth)
    }

    /// Unit normals as seen from the front; (0, 0, 1) for a plane that faces the camera, so they point into the object.
    pub fn normals(&self) -> Map<'_, [f32; 3]> {
        self.vectors(&self.prediction.normals)
    }

    /// Colour without light as seen from the front, RGB in \[-1,1\].
    pub fn albedo(&self) -> Map<'_, [f32; 3]> {
        self.vectors(&self.prediction.albedo)
    }

    /// `max(0, normal . direction)` of the photograph's light, as seen from the front.
    pub fn diffuse_shading(&self) -> Map<'_, f32> {
        self.scalars(&self.prediction.diffuse_shading)
    }

    /// The object under the photograph's light, seen from the front, RGB in \[-1,1\].
    pub fn canonical_image(&self) -> Map<'_, [f32; 3]> {
        self.vectors(&self.prediction.canonical_image)
    }

    /// The crop of the photograph as shape, colour, light and viewpoint explain it, RGB in \[-1,1\]; 0 where no surface
    /// is seen.
    pub fn reconstruction(&self) -> Map<'_, [f32; 3]> {
        self.vectors(&self.prediction.image)
    }

    /// The light of the photograph, in the canonical frame: it turns with the object.
    pub fn light(&self) -> Light {
        let [ambient, diffuse, direction @ ..] = self.light_numbers();
        Light { ambient, diffuse, direction }
    }

    /// Where the photograph was taken from.
    pub fn viewpoint(&self) -> Viewpoint {
        let [a, b, c, translation @ ..] = self.view_numbers();
        Viewpoint { rotation: [a, b, c], translation }
    }

    /// The square of the photograph that was reconstructed, as the model saw it but finer: 512 pixels at most.
    pub fn crop(&self) -> &Image {
        &self.crop
    }

    /// Where the crop lies in the photograph; `None` if the image was taken as it is.
    pub fn location(&self) -> Option<&FaceLocation> {
        self.location.as_ref()
    }

    /// How the object was found if it is no human face and what is seen decided; else `None`.
    pub fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    /// How far the result is to be trusted.
    pub fn quality(&self) -> &Quality {
        &self.quality
    }

    /// Steps in which the networks' answer was fitted to the image; 0 if it stands as it is.
    pub fn refined(&self) -> u16 {
        self.refined
    }

    /// The angle between the rays of the first and of the last column, in degrees.
    pub fn field_of_view(&self) -> f32 {
        self.settings.field_of_view
    }

    /// The visible part of the object as a textured mesh; a [`Texture`](crate::Texture) alone will do for the options.
    ///
    /// # Errors
    /// [`NoSurface`](crate::Error::NoSurface) if the depth makes none.
    pub fn mesh(&self, options: impl Into<MeshOptions>) -> Result<Mesh> {
        Mesh::new(self, options.into())
    }

    /// The object from a camera, under a light, in the photograph's own colours, as an RGB image of `size` x `size` pixels.
    ///
    /// # Errors
    /// If `size` is 0 or there is no memory for such an image.
    pub fn render(&self, camera: &Camera, lighting: impl Into<Lighting>, size: usize) -> Result<Image> {
        let canvas = self.render_frames(&[(*camera, lighting.into())], size)?.swap_remove(0);
        let side = size as u32;
        Ok(Image { width: side, height: side, pixels: canvas.bytes().to_vec() })
    }

    /// The object from several cameras under a light each, as [`Reconstruction::render`]: quicker than one by one.
    ///
    /// # Errors
    /// As [`Reconstruction::render`].
    pub fn render_frames(&self, frames: &[(Camera, Lighting)], size: usize) -> Result<Vec<Canvas>> {
        /// Larger ones are slips.
        const LONGEST: usize = 16_384;
        /// Rendered together: enough for all cores.
        const TOGETHER: usize = 16;
        if size > LONGEST {
            let detail = format!("images have at most {LONGEST} rows, not {size}");
            return Err(relievo_tensor::Error::shape("render", detail).into());
        }
        let own = self.settings.camera();
        let side = size.clamp(self.size(), LEAST_TEXTURE.max(self.size()));
        let colours = self.photograph_on_grid(side)?;
        let mut canvases = Vec::with_capacity(frames.len());
        for frames in frames.chunks(TOGETHER) {
            // Frames under one light are views of one image; those of one camera are images in one view.
            let same = |of: fn(&(Camera, Lighting), &(Camera, Lighting)) -> bool| {
                frames.iter().all(|frame| of(frame, &frames[0]))
            };
            let groups: Vec<&[(Camera, Lighting)]> = match () {
                () if same(|a, b| a.0.background == b.0.background && a.1 == b.1) => vec![frames],
                () if same(|a, b| a.0 == b.0) => vec![frames],
                () => frames.chunks(1).collect(),
            };
            for group in groups {
                let is_one_light = group.iter().all(|frame| frame.1 == group[0].1);
                let (lights, cameras) =
                    if is_one_light { (&group[..1], group) } else { (group, &group[..1]) };
                let images = lights
                    .iter()
                    .map(|(_, lighting)| {
                        let light: Vec<_> =
                            self.normals().values().iter().map(|normal| lighting.on(*normal)).collect();
                        Tensor::new(&colours.relit(&light, self.size()), [1, side, side, 3])
                    })
                    .collect::<relievo_tensor::Result<Vec<_>>>()?;
                let views: Vec<[f32; 6]> = cameras.iter().map(|(camera, _)| camera.view()).collect();
                let background = group[0].0.background.map(|value| f32::from(value) / 127.5 - 1.0);
                let view = ViewSettings { size, crop: FRAME, background, ..ViewSettings::with_room(own) };
                let shown = self.views(&images, &views, &view)?;
                let frame = |pixels: &[f32]| Canvas::from_signed(pixels, size);
                canvases.extend(
                    shown
                        .images
                        .iter()
                        .flat_map(|layer| layer.data().chunks_exact(3 * size * size).map(frame)),
                );
            }
        }
        Ok(canvases)
    }

    /// The object with each of some images on it, `[1,T,T,3]`, from some viewpoints, without what lies behind it.
    pub(crate) fn views(
        &self,
        images: &[Tensor],
        views: &[[f32; 6]],
        settings: &ViewSettings,
    ) -> Result<Views> {
        let depth = self.tensor(&self.prediction.canonical_depth)?;
        let level = object_level(self.canonical_depth().values(), &self.settings);
        let level = Tensor::new(&level, depth.shape())?;
        let images: Vec<&Tensor> = images.iter().collect();
        Ok(render_cut_views(&images, &depth, &level, views, settings)?)
    }

    /// Ambient, diffuse, then the direction (x, y, z).
    pub(crate) fn light_numbers(&self) -> [f32; 5] {
        std::array::from_fn(|at| self.share(&self.prediction.light)[at])
    }

    /// Radians about x, y, z, then translation along x, y, z.
    pub(crate) fn view_numbers(&self) -> [f32; 6] {
        std::array::from_fn(|at| self.share(&self.prediction.view)[at])
    }

    /// Whether all that the networks say are numbers.
    pub(crate) fn is_finite(&self) -> bool {
        let Prediction { canonical_depth, albedo, light, view, .. } = &*self.prediction;
        [canonical_depth, albedo, light, view].iter().all(|map| self.share(map).iter().all(|x| x.is_finite()))
    }

    /// The crop at the resolution of textures.
    pub(crate) fn fine(&self) -> Image {
        let side = self.crop.width.min(LEAST_TEXTURE as u32);
        self.crop.square(side.max(self.size() as u32))
    }

    /// The surface seen from the front in the pixels of the photograph, and of others of the object if there are some, at
    /// pairs of `places` (0 to the map's last column).
    pub(crate) fn photograph_texture(&self, places: &[f32]) -> Result<ImageTexture> {
        let of_others = self.others.iter().map(|(number, crop)| Self {
            number: *number,
            crop: Arc::clone(crop),
            others: Arc::default(),
            ..self.clone()
        });
        let views: Vec<Self> = std::iter::once(self.clone()).chain(of_others).collect();
        let values: Vec<Vec<f32>> = views.iter().map(|view| view.fine().signed().collect()).collect();
        let images: Vec<_> = views
            .iter()
            .zip(&values)
            .map(|(view, values)| {
                (view.texture_parts(), FineImage { values, side: (values.len() / 3).isqrt() })
            })
            .collect();
        Ok(image_texture(&self.settings, &images, places)?)
    }

    fn texture_parts(&self) -> TextureParts<'_> {
        let prediction = &self.prediction;
        TextureParts {
            canonical_depth: self.share(&prediction.canonical_depth),
            normals: self.share(&prediction.normals),
            albedo: self.share(&prediction.albedo),
            diffuse_shading: self.share(&prediction.diffuse_shading),
            light: self.light_numbers(),
            view: self.view_numbers(),
        }
    }

    /// The same at `side` x `side` places, the first and the last of which lie on those of the maps.
    pub(crate) fn photograph_on_grid(&self, side: usize) -> Result<ImageTexture> {
        let step = (self.size() - 1) as f32 / (side - 1) as f32;
        self.photograph_texture(&(0..side).map(|place| place as f32 * step).collect::<Vec<_>>())
    }

    /// This image's share of a tensor of the batch.
    pub(crate) fn share<'t>(&self, tensor: &'t Tensor) -> &'t [f32] {
        let elements = tensor.numel() / self.prediction.light.shape()[0];
        &tensor.data()[self.number * elements..][..elements]
    }

    /// This image's share of a map `[B,S,S,..]` of the batch, as a batch of one.
    fn tensor(&self, map: &Tensor) -> Result<Tensor> {
        Ok(map.narrow(self.number, 1)?)
    }

    fn scalars<'t>(&self, tensor: &'t Tensor) -> Map<'t, f32> {
        Map::new(self.share(tensor), self.size())
    }

    fn vectors<'t>(&self, tensor: &'t Tensor) -> Map<'t, [f32; 3]> {
        Map::new(self.share(tensor).as_chunks().0, self.size())
    }
}
