//! Reconstructions drawn for people: single maps, a panel of everything, a contact sheet of many.

use relievo_export::{Canvas, Range, Sheet, depth_grey, normals_rgb, shading_grey};
use relievo_model::FRAME;
use relievo_render::ViewSettings;
use relievo_tensor::Tensor;

use crate::{Reconstruction, Result};

/// Rows and columns of an image on the panel.
const TILE: usize = 256;

/// Angles about the vertical axis of the views in the lower rows, in degrees.
const YAWS: [f32; 7] = [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0];

/// Rows and columns of an image on the contact sheet.
const SHEET_TILE: usize = 128;

/// Angles about the vertical axis of the views on the contact sheet, in degrees.
const SHEET_YAWS: [f32; 3] = [-45.0, 25.0, 60.0];

impl Reconstruction {
    /// Albedo as seen from the front.
    pub fn draw_albedo(&self) -> Canvas {
        Canvas::from_signed(self.albedo().values().as_flattened(), self.size())
    }

    /// Normals as seen from the front, in the usual colours.
    pub fn draw_normals(&self) -> Canvas {
        normals_rgb(self.normals().values().as_flattened(), self.size())
    }

    /// The crop of the photograph as it was reconstructed.
    pub fn draw_reconstruction(&self) -> Canvas {
        Canvas::from_signed(self.reconstruction().values().as_flattened(), self.size())
    }

    /// The object under the photograph's light, seen from the front.
    pub fn draw_canonical_image(&self) -> Canvas {
        Canvas::from_signed(self.canonical_image().values().as_flattened(), self.size())
    }

    /// Depth as seen from the front, near is bright.
    pub fn draw_canonical_depth(&self) -> Canvas {
        let (depth, size) = (self.canonical_depth().values(), self.size());
        // The border's depth is set, not seen: it says nothing about the range to show.
        let inside: Vec<u8> =
            (0..size * size).map(|at| u8::from((FRAME..size - FRAME).contains(&(at % size)))).collect();
        depth_grey(depth, size, None, Range::robust(depth, Some(&inside)))
    }

    /// The photograph's light on the object without its colours, seen from the front.
    pub fn draw_shading(&self) -> Canvas {
        let [ambient, diffuse, ..] = self.light_numbers();
        shading_grey(self.diffuse_shading().values(), [ambient, diffuse], self.size())
    }

    /// The object in the photograph's own pixels and light, turned about the vertical axis by angles in degrees.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn draw_views(&self, yaws: &[f32]) -> Result<Vec<Canvas>> {
        Ok(self.turned([&self.photograph_on_grid(TILE)?.lit()], yaws)?.concat())
    }

    /// The surface with each of some images on it, `[T,T,3]` in [-1,1], turned about the vertical axis by angles in
    /// degrees.
    fn turned<const N: usize>(&self, images: [&[f32]; N], yaws: &[f32]) -> Result<[Vec<Canvas>; N]> {
        let camera = self.settings.camera();
        let as_tensor = |image: &[f32]| {
            let side = (image.len() / 3).isqrt();
            Tensor::new(image, [1, side, side, 3])
        };
        let images =
            images.iter().map(|image| as_tensor(image)).collect::<relievo_tensor::Result<Vec<_>>>()?;
        let views: Vec<[f32; 6]> =
            yaws.iter().map(|yaw| [0.0, yaw.to_radians(), 0.0, 0.0, 0.0, 0.0]).collect();
        let view = ViewSettings { size: TILE, crop: FRAME, ..ViewSettings::with_room(camera) };
        let rendered = self.views(&images, &views, &view)?;
        let tiles = |layer: &Tensor| {
            let tiles = layer.data().chunks_exact(TILE * TILE * 3);
            tiles.map(|tile| Canvas::from_signed(tile, TILE)).collect()
        };
        Ok(std::array::from_fn(|number| tiles(&rendered.images[number])))
    }

    /// The panel: the crop, every map, and views from the side.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn panel(&self) -> Result<Canvas> {
        let input = self.crop.square(TILE as u32);
        let input = Canvas::from_rgb8(&input.pixels, TILE);
        let maps = [
            ("input", input),
            ("reconstruction", self.draw_reconstruction()),
            ("canonical image", self.draw_canonical_image()),
            ("albedo", self.draw_albedo()),
            ("canonical depth", self.draw_canonical_depth()),
            ("normals", self.draw_normals()),
            ("shading", self.draw_shading()),
        ];
        let (captions, maps): (Vec<_>, Vec<_>) = maps.into_iter().unzip();
        let mut upper = Sheet::new(TILE).columns(captions);
        upper.row("", maps);
        let pixels = self.photograph_on_grid(TILE)?.lit();
        let [in_pixels, in_albedo] =
            self.turned([&pixels, self.canonical_image().values().as_flattened()], &YAWS)?;
        let mut middle = Sheet::new(TILE).columns(YAWS.map(|yaw| format!("turned by {yaw} degrees")));
        middle.row("", in_pixels);
        let mut lower = Sheet::new(TILE).columns(YAWS.map(|yaw| format!("learned albedo, {yaw}")));
        lower.row("", in_albedo);
        Ok(stacked(&[upper.draw(), middle.draw(), lower.draw()]))
    }

    /// A row of a [`contact_sheet`]: the crop, the reconstruction, depth from the front, normals, albedo, and views.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn sheet_row(&self) -> Result<Vec<Canvas>> {
        let input = self.crop.square(SHEET_TILE as u32);
        let mut row = vec![
            Canvas::from_rgb8(&input.pixels, SHEET_TILE),
            self.draw_reconstruction(),
            self.draw_canonical_depth(),
            self.draw_normals(),
            self.draw_albedo(),
        ];
        row.extend(self.draw_views(&SHEET_YAWS)?);
        Ok(row)
    }
}

/// Images below each other.
pub(crate) fn stacked(images: &[Canvas]) -> Canvas {
    let width = images.iter().map(Canvas::width).max().unwrap_or_default();
    let mut stack = Canvas::new(width, images.iter().map(Canvas::height).sum(), [255; 3]);
    let mut top = 0;
    for image in images {
        stack.paste(image, 0, top);
        top += image.height();
    }
    stack
}

/// A sheet of rows of [`Reconstruction::sheet_row`].
pub fn contact_sheet(rows: &[Vec<Canvas>]) -> Canvas {
    let captions = ["input", "reconstruction", "depth", "normals", "albedo"].map(str::to_owned);
    let views = SHEET_YAWS.map(|yaw| format!("{yaw} degrees"));
    let mut sheet = Sheet::new(SHEET_TILE).columns(captions.into_iter().chain(views));
    for row in rows {
        sheet.row("", row.iter().cloned());
    }
    sheet.draw()
}
