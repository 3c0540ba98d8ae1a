//! Images of samples on a GPU, and the gradient of what is seen where.

use relievo_tensor::{Backward, Result, Tensor};

use super::{COLOUR_EPS, DepthMean, Resolve, SILHOUETTE_EPS, Wanted};
use crate::cuda::boundary::Boundary;
use crate::cuda::resolve::{self as gpu, Batch, Settings, Upstream};
use crate::raster::Geometry;

impl Resolve {
    fn batch(&self) -> Batch<'_> {
        let side = self.settings.per_pixel;
        let (covered, background) = match self.settings.depth_mean {
            DepthMean::All => (0, 0.0),
            DepthMean::Covered { background } => (1, background),
        };
        Batch {
            drawn: self.coverage.drawn(),
            geometries: &self.coverage.geometries,
            samples: self.coverage.samples,
            numbers: &self.coverage.numbers,
            settings: Settings {
                per_pixel: side as i32,
                share: 1.0 / (side * side) as f32,
                eps: if self.settings.wanted.colour { COLOUR_EPS } else { SILHOUETTE_EPS },
                covered,
                background,
            },
        }
    }

    pub(super) fn forward_on_gpu(&self, colours: Option<&Tensor>) -> Result<Vec<Tensor>> {
        let Wanted { alpha, colour, depth } = self.settings.wanted;
        gpu::forward(&self.batch(), [alpha, colour, depth], colours, self.coverage.depth.as_ref())
    }

    pub(super) fn backward_on_gpu(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let mut given = backward.gradients.iter();
        let Wanted { alpha, colour, depth } = self.settings.wanted;
        let [alpha, dcolour, depth] = [alpha, colour, depth]
            .map(|wanted| if wanted { given.next().and_then(Option::as_ref) } else { None });
        let parts = self.coverage.geometries.iter().flat_map(Geometry::parts).count();
        let batch = self.batch();
        let mut gradients: Vec<Option<Tensor>> = vec![None; parts];
        if (0..parts).any(|part| backward.wants(part)) {
            let colour = dcolour.map(|dcolour| [dcolour, &backward.saved[0]]);
            let found = self.screen_gradients_on_gpu(&batch, &Upstream { alpha, colour, depth })?;
            gradients = found.into_iter().map(Some).collect();
        }
        if colour {
            let wanted = dcolour.filter(|_| backward.wants(parts));
            gradients.push(wanted.map(|dcolour| gpu::spread(&batch, dcolour)).transpose()?);
        }
        Ok(gradients)
    }

    fn screen_gradients_on_gpu(&self, batch: &Batch<'_>, upstream: &Upstream<'_>) -> Result<Vec<Tensor>> {
        let Some(places) = self.settings.gradient.places() else {
            return gpu::screen_gradients(batch, upstream, None);
        };
        let depths = match (self.settings.depth_mean, upstream.depth, &self.coverage.depth) {
            (DepthMean::Covered { .. }, Some(_), Some(depth)) => {
                Some(gpu::forward(batch, [true, false, true], None, Some(depth))?)
            }
            _ => None,
        };
        let device = self.coverage.numbers.device();
        let paint = match (&self.surfaces, upstream.colour) {
            (Some(surfaces), Some(_)) => Some(surfaces.on_gpu(&self.coverage.geometries, device)?),
            _ => None,
        };
        let boundary = Boundary {
            places: places.on_gpu()?,
            depths: depths.as_ref().map(|images| [&images[1], &images[0]]),
            paint: paint.as_ref().map(|(painted, background)| (&painted[..], *background)),
        };
        gpu::screen_gradients(batch, upstream, Some(&boundary))
    }
}
