//! Images of samples on a GPU, and the gradient of what is seen where.

use relievo_tensor::{Backward, Device, Result, Tensor};

use super::{COLOUR_EPS, DepthMean, Resolve, ResolveSettings, SILHOUETTE_EPS, Wanted, resolve};
use crate::cuda::on_device;
use crate::cuda::resolve::{self as gpu, Batch, Settings, Upstream};
use crate::raster::{Coverage, Geometry};
use crate::shade::Surfaces;

/// [`resolve`] of what is on a GPU, on the CPU: for gradients that have no kernels. The images go back to the GPU, and so do
/// the gradients.
pub(super) fn resolve_on_host(
    coverage: &Coverage,
    settings: ResolveSettings,
    screens: &[Tensor],
    colours: Option<&Tensor>,
    surfaces: Option<Surfaces>,
) -> Result<[Option<Tensor>; 3]> {
    let device = coverage.numbers.device();
    let here = |tensor: &Tensor| on_device(tensor, Device::Cpu);
    let screens = screens.iter().map(here).collect::<Result<Vec<_>>>()?;
    let colours = colours.map(here).transpose()?;
    let surfaces = surfaces.map(Surfaces::on_host).transpose()?;
    let coverage = coverage.on_host(&screens)?;
    let [alpha, colour, depth] = resolve(coverage, settings, &screens, colours.as_ref(), surfaces)?;
    let there = |image: Option<Tensor>| image.map(|image| on_device(&image, device)).transpose();
    Ok([there(alpha)?, there(colour)?, there(depth)?])
}

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
            let found = gpu::screen_gradients(&batch, &Upstream { alpha, colour, depth })?;
            gradients = found.into_iter().map(Some).collect();
        }
        if colour {
            let wanted = dcolour.filter(|_| backward.wants(parts));
            gradients.push(wanted.map(|dcolour| gpu::spread(&batch, dcolour)).transpose()?);
        }
        Ok(gradients)
    }
}
