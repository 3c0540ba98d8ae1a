//! The panel of a picture: what the model takes it for, and how it looks from elsewhere.

use relievo_export::{Canvas, Range, Sheet, depth_grey, normals_rgb};
use relievo_model::{FRAME, Model, ModelSettings, Prediction};
use relievo_render::{ViewSettings, render_views};
use relievo_tensor::{Result, Tensor};

/// Rows and columns of a picture on the panel.
pub const TILE: usize = 256;

/// Angles about the vertical axis of the views in the lower row, in degrees.
const YAWS: [f32; 7] = [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0];

/// One picture of a batch that was predicted.
pub struct Part<'a> {
    model: &'a Model,
    prediction: &'a Prediction,
    number: usize,
}

impl<'a> Part<'a> {
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

    /// This picture's share of a tensor of the prediction.
    pub fn of<'t>(&self, tensor: &'t Tensor) -> &'t [f32] {
        let elements = tensor.elements() / self.prediction.light.shape()[0];
        &tensor.data()[self.number * elements..][..elements]
    }

    pub fn light(&self) -> [f32; 5] {
        std::array::from_fn(|at| self.of(&self.prediction.light)[at])
    }

    pub fn view(&self) -> [f32; 6] {
        std::array::from_fn(|at| self.of(&self.prediction.view)[at])
    }

    /// 1 where the object is in the picture, 0 elsewhere.
    pub fn mask(&self) -> Vec<u8> {
        self.of(&self.prediction.mask).iter().map(|&seen| u8::from(seen > 0.5)).collect()
    }

    pub fn albedo(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.albedo), self.size())
    }

    pub fn normals(&self) -> Canvas {
        normals_rgb(self.of(&self.prediction.normals), self.size())
    }

    /// The object lit by its own light, turned about the vertical axis by angles in degrees.
    pub fn views(&self, yaws: &[f32]) -> Result<Vec<Canvas>> {
        let settings = self.settings();
        let size = self.size();
        let picture = Tensor::new(self.of(&self.prediction.canonical_picture), [1, size, size, 3])?;
        let depth = Tensor::new(self.of(&self.prediction.canonical_depth), [1, size, size])?;
        let views: Vec<[f32; 6]> =
            yaws.iter().map(|yaw| [0.0, yaw.to_radians(), 0.0, 0.0, 0.0, 0.0]).collect();
        let view = ViewSettings { size: TILE, crop: FRAME, ..ViewSettings::new(settings.camera()) };
        let rendered = render_views(&picture, &depth, &views, &view)?;
        let tiles = rendered.pictures.data().chunks_exact(TILE * TILE * 3);
        Ok(tiles.map(|tile| Canvas::from_signed(tile, TILE)).collect())
    }

    /// The picture put together again from its parts.
    pub fn reconstruction(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.picture), self.size())
    }

    /// The object under its light, seen from the front.
    pub fn canonical_picture(&self) -> Canvas {
        Canvas::from_signed(self.of(&self.prediction.canonical_picture), self.size())
    }

    /// Depth as seen from the front, near is bright.
    fn canonical_depth(&self) -> Canvas {
        let depth = self.of(&self.prediction.canonical_depth);
        depth_grey(depth, self.size(), None, Range::robust(depth, None))
    }

    /// Depth in the view of the picture, near is bright, black where the object is not.
    pub fn depth(&self) -> Canvas {
        let (depth, mask) = (self.of(&self.prediction.depth), self.mask());
        depth_grey(depth, self.size(), Some(&mask), Range::robust(depth, Some(&mask)))
    }

    fn shading(&self) -> Canvas {
        let [ambient, diffuse, ..] = self.light();
        let toward = self.of(&self.prediction.diffuse_shading).iter();
        let shading: Vec<f32> = toward.map(|toward| ambient + diffuse * toward).collect();
        Canvas::from_grey(&shading, self.size())
    }

    /// The panel; `input` is the picture itself, of any size.
    pub fn draw(&self, input: Canvas) -> Result<Canvas> {
        let maps = [
            ("input", input),
            ("reconstruction", self.reconstruction()),
            ("canonical picture", self.canonical_picture()),
            ("albedo", self.albedo()),
            ("depth", self.canonical_depth()),
            ("normals", self.normals()),
            ("shading", self.shading()),
        ];
        let (captions, maps): (Vec<_>, Vec<_>) = maps.into_iter().unzip();
        let mut upper = Sheet::new(TILE).columns(captions);
        upper.row("", maps);
        let mut lower = Sheet::new(TILE).columns(YAWS.map(|yaw| format!("turned by {yaw} degrees")));
        lower.row("", self.views(&YAWS)?);
        let (upper, lower) = (upper.draw(), lower.draw());
        let mut panel = Canvas::new(upper.width(), upper.height() + lower.height(), [255; 3]);
        panel.paste(&upper, 0, 0);
        panel.paste(&lower, 0, upper.height());
        Ok(panel)
    }
}
