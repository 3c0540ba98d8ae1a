//! Soft faces on a GPU.

use relievo_tensor::{Backward, Context, Result, Tensor};

use super::{Soften, Softness};
use crate::cuda::soft::{self as gpu, Paint, Upstream, Wanted};
use crate::shade::{in_order, wanted};

impl Softness {
    fn on_gpu(&self) -> gpu::Softness {
        // At most three, or the samples of a window.
        let per_pixel = self.per_pixel as i32;
        gpu::Softness { square: self.square(), reach: self.reach(), per_pixel, unused: 0 }
    }
}

impl Soften {
    pub(super) fn forward_on_gpu(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let own = &inputs[self.parts()..];
        let (drawn, numbers, geometries) =
            (self.coverage.drawn(), &self.coverage.numbers, &self.coverage.geometries);
        let softness = self.softness.on_gpu();
        let sorted = gpu::sorted(drawn, softness, numbers.device())?;
        let painted = match &self.paints {
            Some(paints) => {
                paints.check(geometries.len(), own)?;
                Some(paints.on_gpu(geometries, own, numbers.device())?.0)
            }
            None => None,
        };
        let paint = painted.as_ref().map(|painted| Paint { painted, background: own[0] });
        let (alpha, colours, kept) = gpu::forward(drawn, &sorted, softness, numbers, self.alpha, paint)?;
        let _ = self.sorted.set(sorted);
        context.save(&kept);
        // Without colour something is kept in its place.
        context.save(colours.as_ref().unwrap_or(&kept));
        own.iter().for_each(|tensor| context.save(tensor));
        Ok([alpha, colours].into_iter().flatten().collect())
    }

    pub(super) fn backward_on_gpu(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [kept, made] = [0, 1].map(|index| &backward.saved[index]);
        let own: Vec<&Tensor> = backward.saved[2..].iter().collect();
        let (drawn, geometries) = (self.coverage.drawn(), &self.coverage.geometries);
        let sorted = self.sorted.get().expect("forward has sorted the faces");
        let alpha = if self.alpha { backward.gradients[0].as_ref() } else { None };
        let colour = match self.paints {
            Some(_) => backward.gradients[usize::from(self.alpha)].as_ref(),
            None => None,
        };
        let parts = self.parts();
        let painted = match &self.paints {
            Some(paints) => Some(paints.on_gpu(geometries, &own, kept.device())?),
            None => None,
        };
        let (mut of_parts, mut behind) = (Vec::new(), false);
        if let (Some((painted, lights)), Some(_)) = (&painted, colour) {
            of_parts = wanted(painted, lights, backward, parts);
            behind = backward.wants(parts);
        }
        let paint = painted.as_ref().map(|(painted, _)| Paint { painted, background: own[0] });
        let upstream = Upstream { alpha, colour: colour.map(|gradient| [gradient, made]), kept };
        let wanted = Wanted { background: behind, parts: of_parts };
        let softness = self.softness.on_gpu();
        let found = gpu::backward(drawn, sorted, softness, geometries, upstream, paint, &wanted)?;
        let mut gradients: Vec<Option<Tensor>> = found.vertices.into_iter().map(Some).collect();
        if let Some((_, lights)) = &painted {
            gradients.extend(in_order(own.len(), found.background, found.parts, lights));
        }
        Ok(gradients)
    }
}
