//! The whole way from a canonical picture and depth to the picture in the input view.

use relievo_tensor::ops::grid_sample;
use relievo_tensor::{Result, Tensor};

use crate::{
    Camera, DepthRange, RasterSettings, apply_mask, clamp_depth, lift, move_points, rasterise_depth,
    sampling_grid, visible_mask,
};

/// What all pictures are rendered with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// The camera of the canonical and of the input view.
    pub camera: Camera,
    /// The range of canonical depths.
    pub depth_range: DepthRange,
    /// How the moved surface is rasterised.
    pub raster: RasterSettings,
}

/// A canonical picture seen from a viewpoint, and what was found on the way. S is the camera's size.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// Depth in the input view, `[B, S, S]`, clamped to the widened range.
    pub depth: Tensor,
    /// Where each pixel of the input view lies in the canonical picture, `[B, S, S, 2]`, see [`sampling_grid`].
    pub grid: Tensor,
    /// 1 where the surface is seen in all parts of the batch, else 0: `[B / parts, S, S]`. Without gradient.
    pub mask: Tensor,
    /// The canonical picture sampled at the grid, times the mask: `[B, S, S, 3]`.
    pub picture: Tensor,
}

impl Scene {
    /// Reconstructs the input view: the surface moved by the viewpoint is rasterised, every pixel of its depth traced
    /// back into the canonical picture, and that picture sampled there.
    ///
    /// `picture` `[B, S, S, 3]` and `depth` `[B, S, S]` canonical; `view` `[B', 6]`, B' a divisor of B; `parts` as in
    /// [`visible_mask`]: 2 for a batch doubled by mirroring. Gradients reach all three. Source: Wu et al. 2020,
    /// section 3.3.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the camera.
    pub fn reconstruct(
        &self,
        picture: &Tensor,
        depth: &Tensor,
        view: &Tensor,
        parts: usize,
    ) -> Result<Reconstruction> {
        let moved = move_points(&lift(depth, self.camera)?, view, false)?;
        let depth = clamp_depth(&rasterise_depth(&moved, self.camera, self.raster)?, self.depth_range)?;
        let grid = sampling_grid(&depth, view, self.camera)?;
        let mask = visible_mask(&depth, self.depth_range, parts)?;
        let picture = apply_mask(&grid_sample(picture, &grid)?, &mask)?;
        Ok(Reconstruction { depth, grid, mask, picture })
    }
}
