//! One image of a prediction: its maps drawn, its views, its panel.

use relievo_data::Image;
use relievo_export::{Canvas, Range, Sheet, depth_grey, normals_rgb, shading_grey};
use relievo_model::{FRAME, FineImage, Model, ModelSettings, Prediction, TextureParts, image_texture};
use relievo_render::{ViewSettings, render_views};
use relievo_tensor::{Result, Tensor};

/// Rows and columns of an image on the panel.
pub const TILE: usize = 256;

/// Angles about the vertical axis of the views in the lower rows, in degrees.
const YAWS: [f32; 7] = [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0];

/// One image of a batch that was predicted.
pub struct ImageResult<'a> {
    model: &'a Model,
    prediction: &'a Prediction,
    number: usize,
}

impl<'a> ImageResult<'a> {
    /// Number `number` of a prediction of `model`.
    pub fn new(model: &'a Model, prediction: &'a Prediction, number: usize) -> Self {
        Self { model, prediction, number }
    }

    /// The prediction of the whole batch.
    pub fn prediction(&self) -> &'a Prediction {
        self.prediction
    }

    /// The settings of the model.
    pub fn settings(&self) -> &'a ModelSettings {
        self.model.settings()
    }

    /// Columns of every map of the model.
    pub fn size(&self) -> usize {
        self.settings().image_size
    }

    /// This image's share of a tensor of the prediction.
    pub fn of<'t>(&self, tensor: &'t Tensor) -> &'t [f32] {
        let elements = tensor.numel() / self.prediction.light.shape()[0];
        &tensor.data()[self.number * elements..][..elements]
    }

    /// Ambient, diffuse, then the direction (x, y, z).
    pub fn light(&self) -> [f32; 5] {
        std::array::from_fn(|at| self.of(&self.prediction.light)[at])
    }

    /// Radians about x, y, z, then translation along x, y, z.
    pub fn view(&self) -> [f32; 6] {
        std::array::from_fn(|at| self.of(&self.prediction.view)[at])
    }

    /// 1 where the object is in the image, 0 elsewhere.
    pub fn mask(&self) -> Vec<u8> {
        self.of(&self.prediction.mask).iter().map(|&seen| u8::from(seen > 0.5)).collect()
    }

    /// Whether all that the networks say are numbers.
    pub fn is_finite(&self) -> bool {
        let Prediction { canonical_depth, albedo, light, view, .. } = self.prediction;
        [canonical_depth, albedo, light, view].iter().all(|map| self.of(map).iter().all(|x| x.is_finite()))
    }

    /// Albedo as seen from the front.
    pub fn albedo(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.albedo), self.size())
    }

    /// Normals as seen from the front, in the usual colours.
    pub fn normals(&self) -> Canvas {
        normals_rgb(self.of(&self.prediction.normals), self.size())
    }

    /// The object lit by its own light, turned about the vertical axis by angles in degrees.
    pub fn views(&self, yaws: &[f32]) -> Result<Vec<Canvas>> {
        Ok(self.turned([self.of(&self.prediction.canonical_image)], yaws)?.concat())
    }

    /// The surface with each of some images on it, `[T,T,3]` in [-1,1], turned about the vertical axis by angles in
    /// degrees.
    fn turned<const N: usize>(&self, images: [&[f32]; N], yaws: &[f32]) -> Result<[Vec<Canvas>; N]> {
        let camera = self.settings().camera();
        let depth = Tensor::new(self.of(&self.prediction.canonical_depth), [1, camera.size, camera.size])?;
        let as_tensor = |image: &[f32]| {
            let side = (image.len() / 3).isqrt();
            Tensor::new(image, [1, side, side, 3])
        };
        let images = images.iter().map(|image| as_tensor(image)).collect::<Result<Vec<_>>>()?;
        let views: Vec<[f32; 6]> =
            yaws.iter().map(|yaw| [0.0, yaw.to_radians(), 0.0, 0.0, 0.0, 0.0]).collect();
        let view = ViewSettings { size: TILE, crop: FRAME, ..ViewSettings::with_room(camera) };
        let rendered = render_views(&images.iter().collect::<Vec<_>>(), &depth, &views, &view)?;
        let tiles = |layer: &Tensor| {
            let tiles = layer.data().chunks_exact(TILE * TILE * 3);
            tiles.map(|tile| Canvas::from_signed(tile, TILE)).collect()
        };
        Ok(std::array::from_fn(|number| tiles(&rendered.images[number])))
    }

    /// The surface seen from the front in the image's own pixels, in [-1,1], at pairs of `places` (0 to the map's
    /// last column).
    pub fn worn(&self, image: &Image, places: &[f32]) -> Vec<f32> {
        let prediction = self.prediction;
        let parts = TextureParts {
            canonical_depth: self.of(&prediction.canonical_depth),
            normals: self.of(&prediction.normals),
            albedo: self.of(&prediction.albedo),
            diffuse_shading: self.of(&prediction.diffuse_shading),
            light: self.light(),
            view: self.view(),
            depth: self.of(&prediction.depth),
            mask: self.of(&prediction.mask),
        };
        let values: Vec<f32> = image.signed().collect();
        let fine = FineImage { values: &values, side: image.width as usize };
        image_texture(self.settings(), &parts, fine, places)
    }

    /// The image put together again from its parts.
    pub fn reconstruction(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.image), self.size())
    }

    /// The object under its light, seen from the front.
    pub fn canonical_image(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.canonical_image), self.size())
    }

    /// Depth as seen from the front, near is bright.
    fn canonical_depth(&self) -> Canvas {
        let (depth, size) = (self.of(&self.prediction.canonical_depth), self.size());
        // The border's depth is set, not seen: it says nothing about the range to show.
        let inside: Vec<u8> =
            (0..size * size).map(|at| u8::from((FRAME..size - FRAME).contains(&(at % size)))).collect();
        depth_grey(depth, size, None, Range::robust(depth, Some(&inside)))
    }

    fn shading(&self) -> Canvas {
        let [ambient, diffuse, ..] = self.light();
        shading_grey(self.of(&self.prediction.diffuse_shading), [ambient, diffuse], self.size())
    }

    /// A row of a sheet with images of `tile` pixels: `image`, which the model saw, reconstruction, depth from the
    /// front, normals, albedo, and views turned about the vertical axis by angles in degrees.
    pub fn row(&self, image: &Image, tile: usize, yaws: &[f32]) -> Result<Vec<Canvas>> {
        let input = image.square(tile as u32);
        let mut row = vec![
            Canvas::from_rgb8(&input.pixels, tile),
            self.reconstruction(),
            self.canonical_depth(),
            self.normals(),
            self.albedo(),
        ];
        row.extend(self.views(yaws)?);
        Ok(row)
    }

    /// The panel; `image` is the one the model saw, square, of any size.
    pub fn draw(&self, image: &Image) -> Result<Canvas> {
        let input = image.square(TILE as u32);
        let input = Canvas::from_rgb8(&input.pixels, TILE);
        let maps = [
            ("input", input),
            ("reconstruction", self.reconstruction()),
            ("canonical image", self.canonical_image()),
            ("albedo", self.albedo()),
            ("canonical depth", self.canonical_depth()),
            ("normals", self.normals()),
            ("shading", self.shading()),
        ];
        let (captions, maps): (Vec<_>, Vec<_>) = maps.into_iter().unzip();
        let mut upper = Sheet::new(TILE).columns(captions);
        upper.row("", maps);
        let mut lower = Sheet::new(TILE).columns(YAWS.map(|yaw| format!("turned by {yaw} degrees")));
        // As fine as the views: the grid's first and last points stay where they are.
        let step = (self.size() - 1) as f32 / (TILE - 1) as f32;
        let places: Vec<f32> = (0..TILE).map(|place| place as f32 * step).collect();
        let images = [self.of(&self.prediction.canonical_image), &self.worn(image, &places)];
        let [lit, in_pixels] = self.turned(images, &YAWS)?;
        lower.row("", lit);
        let mut worn = Sheet::new(TILE).columns(YAWS.map(|yaw| format!("in the image's pixels, {yaw}")));
        worn.row("", in_pixels);
        let sheets = [upper.draw(), lower.draw(), worn.draw()];
        let height = sheets.iter().map(Canvas::height).sum();
        let mut panel = Canvas::new(sheets[0].width(), height, [255; 3]);
        let mut top = 0;
        for sheet in &sheets {
            panel.paste(sheet, 0, top);
            top += sheet.height();
        }
        Ok(panel)
    }
}
