//! From a canonical image and depth to the image in the input view, in one call.

use relievo_tensor::ops::grid_sample;
use relievo_tensor::{Result, Tensor};

use crate::{Camera, DepthRange, RasterSettings, move_surface, rasterise_depth, sampling_grid};

/// The camera and the settings that all images share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// The camera of the canonical and of the input view.
    pub camera: Camera,
    /// The range of canonical depths.
    pub depth_range: DepthRange,
    /// How the moved surface is rasterised.
    pub raster: RasterSettings,
}

/// A canonical image seen from a viewpoint, with the intermediate results. S is the camera's size.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// Depth in the input view, `[B, S, S]`, clamped to the widened range.
    pub depth: Tensor,
    /// The place in the canonical image of each pixel of the input view, `[B, S, S, 2]`, see [`sampling_grid`].
    pub grid: Tensor,
    /// 1 where the surface is seen in all parts of the batch, else 0: `[B / parts, S, S]`. Without gradient.
    pub mask: Tensor,
    /// The canonical image sampled at the grid, times the mask: `[B, S, S, 3]`.
    pub image: Tensor,
}

/// Where the canonical image shows what the input view shows: fields as in [`Reconstruction`].
#[derive(Clone, Debug)]
pub struct Traced {
    /// Depth in the input view.
    pub depth: Tensor,
    /// The place in the canonical image of each pixel of the input view.
    pub grid: Tensor,
    /// 1 where the surface is seen in all parts of the batch, else 0.
    pub mask: Tensor,
}

impl Scene {
    /// Reconstructs the input view: the surface moved by the viewpoint is rasterised, every pixel of its depth traced
    /// back into the canonical image, and that image sampled there.
    ///
    /// `image` `[B, S, S, 3]` and `depth` `[B, S, S]` canonical; `view` `[B', 6]`, B' a divisor of B; `parts` as in
    /// [`sampling_grid`]: 2 for a batch doubled by mirroring. Gradients reach all three. Source: Wu et al. 2020,
    /// section 3.3.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the camera.
    pub fn reconstruct(
        &self,
        image: &Tensor,
        depth: &Tensor,
        view: &Tensor,
        parts: usize,
    ) -> Result<Reconstruction> {
        let Traced { depth, grid, mask } = self.trace(depth, view, parts)?;
        let image = grid_sample(image, &grid, Some(&mask))?;
        Ok(Reconstruction { depth, grid, mask, image })
    }

    /// All of [`Scene::reconstruct`] but the sampling, for which the image need not be there yet.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the camera.
    pub fn trace(&self, depth: &Tensor, view: &Tensor, parts: usize) -> Result<Traced> {
        let limits @ [_, far] = self.depth_range.widened();
        let moved = move_surface(depth, view, self.camera)?;
        let depth = rasterise_depth(&moved, self.camera, self.raster, limits)?;
        let [grid, mask] = sampling_grid(&depth, view, self.camera, far, parts)?;
        Ok(Traced { depth, grid, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{relief, views};
    use relievo_tensor::testing::{assert_operation_independent_of_threads, random_tensor};

    const SIZE: usize = 24;

    fn scene(pixel_centre: f32) -> Scene {
        Scene {
            camera: Camera::new(SIZE),
            depth_range: DepthRange { min: 0.9, max: 1.1 },
            raster: RasterSettings { pixel_centre, ..RasterSettings::default() },
        }
    }

    #[test]
    fn a_view_that_moves_nothing_gives_back_the_canonical_image() {
        // The grid does not depend on the depth then, so neither does this on where the depth was taken.
        for pixel_centre in [0.0, 0.5] {
            let image = random_tensor(20, [2, SIZE, SIZE, 3]);
            let depth = relief(2, SIZE, 1.0, 0.08);
            let got = scene(pixel_centre).reconstruct(&image, &depth, &Tensor::zeros([1, 6]), 2).unwrap();
            assert_eq!(&got.mask.shape()[..], [1, SIZE, SIZE]);
            for (i, (got_pixel, pixel)) in
                got.image.data().as_chunks::<3>().0.iter().zip(image.data().as_chunks::<3>().0).enumerate()
            {
                let (row, column) = (i / SIZE % SIZE, i % SIZE);
                if !(1..SIZE - 1).contains(&row) || !(1..SIZE - 1).contains(&column) {
                    continue;
                }
                assert_eq!(got.mask.data()[row * SIZE + column], 1.0);
                assert!(got_pixel.iter().zip(pixel).all(|(a, b)| (a - b).abs() < 1e-4), "{row} {column}");
            }
        }
    }

    #[test]
    fn what_the_surface_does_not_reach_is_masked() {
        let image = Tensor::full([1, SIZE, SIZE, 3], 0.7);
        let depth = Tensor::full([1, SIZE, SIZE], 1.0);
        // Shifted right by a good part of the image, which is 0.175 wide.
        let view = Tensor::new(&[0.0, 0.0, 0.0, 0.06, 0.0, 0.0], [1, 6]).unwrap();
        let got = scene(0.5).reconstruct(&image, &depth, &view, 1).unwrap();
        let row = &got.mask.data()[10 * SIZE..11 * SIZE];
        let first_seen = row.iter().position(|m| *m == 1.0).unwrap();
        assert!((6..=9).contains(&first_seen), "{row:?}");
        assert!(row[first_seen..SIZE - 1].iter().all(|m| *m == 1.0));
        for (pixel, mask) in got.image.data().as_chunks::<3>().0.iter().zip(got.mask.data()) {
            assert!(*mask == 1.0 || *pixel == [0.0; 3]);
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let inputs = [random_tensor(21, [4, SIZE, SIZE, 3]), relief(4, SIZE, 1.0, 0.08), views(2, 0.5)];
        assert_operation_independent_of_threads(&inputs, |x| {
            Ok(scene(0.5).reconstruct(&x[0], &x[1], &x[2], 2)?.image)
        });
    }
}
