//! Shading on a GPU.

use relievo_tensor::{Backward, Device, Result, Tensor};

use super::{Kind, Shade};
use crate::Wrap;
use crate::cuda::shade::{self as gpu, Painted};
use crate::cuda::{FaceTables, TextureTable, pieces};
use crate::raster::Geometry;

/// As `shade.cu` counts them.
fn number(wrap: Wrap) -> usize {
    match wrap {
        Wrap::Repeat => 0,
        Wrap::MirroredRepeat => 1,
        Wrap::ClampToEdge => 2,
        Wrap::ClampToBorder => 3,
    }
}

impl Kind {
    fn on_gpu(&self) -> gpu::Kind {
        match self {
            Self::White { .. } => gpu::Kind::White,
            Self::Cubes { side, .. } => gpu::Kind::Cubes { side: *side },
            Self::VertexColours { .. } => gpu::Kind::VertexColours,
            Self::Image { wrap, size, .. } => gpu::Kind::Image { size: *size, wrap: wrap.map(number) },
        }
    }
}

/// The parts of all images with their tensors, and the index of each one's light among the inputs: the background, then those
/// of each surface.
pub(super) fn painted<'a>(
    kinds: &[Kind],
    geometries: &[Geometry],
    inputs: &[&'a Tensor],
    device: Device,
) -> Result<(Vec<Painted<'a>>, Vec<usize>)> {
    let (mut painted, mut lights, mut input) = (Vec::new(), Vec::new(), 1);
    let parts = geometries.iter().flat_map(Geometry::parts);
    for (kind, part) in kinds.iter().zip(parts) {
        let (faces, texture) = match kind {
            Kind::VertexColours { faces } => (faces, None),
            Kind::Image { corners, .. } => (&part.faces, Some(TextureTable::of(corners, device)?)),
            Kind::White { .. } | Kind::Cubes { .. } => (&part.faces, None),
        };
        painted.push(Painted {
            light: inputs[input],
            colours: (kind.inputs() == 2).then(|| inputs[input + 1]),
            indices: FaceTables::of(faces, device)?.indices,
            texture,
            pieces: part.pieces.as_ref().map(|list| pieces(list, device)).transpose()?,
            faces: [kind.faces(), part.faces.len()],
            kind: kind.on_gpu(),
        });
        lights.push(input);
        input += kind.inputs();
    }
    Ok((painted, lights))
}

/// Which gradients of light and colours of each part are wanted. `first` is the index of the background among the inputs of the
/// operation.
pub(crate) fn wanted(
    painted: &[Painted<'_>],
    lights: &[usize],
    backward: &Backward<'_>,
    first: usize,
) -> Vec<[bool; 2]> {
    let of_part = |(part, light): (&Painted<'_>, &usize)| {
        [backward.wants(first + light), part.colours.is_some() && backward.wants(first + light + 1)]
    };
    painted.iter().zip(lights).map(of_part).collect()
}

/// The gradients of all inputs, from those of the background and of each part.
pub(crate) fn in_order(
    count: usize,
    background: Option<Tensor>,
    parts: gpu::OfParts,
    lights: &[usize],
) -> Vec<Option<Tensor>> {
    let mut gradients = vec![None; count];
    gradients[0] = background;
    for ([light, colours], input) in parts.into_iter().zip(lights) {
        gradients[*input] = light;
        if let Some(colours) = colours {
            gradients[input + 1] = Some(colours);
        }
    }
    gradients
}

impl Shade {
    pub(super) fn forward_on_gpu(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (drawn, numbers) = (self.coverage.drawn(), &self.coverage.numbers);
        let (painted, _) = painted(&self.kinds, &self.coverage.geometries, inputs, numbers.device())?;
        gpu::forward(drawn, numbers, self.coverage.samples, &painted, inputs[0])
    }

    pub(super) fn backward_on_gpu(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let (drawn, numbers) = (self.coverage.drawn(), &self.coverage.numbers);
        let (painted, lights) = painted(&self.kinds, &self.coverage.geometries, &inputs, numbers.device())?;
        let wanted = wanted(&painted, &lights, backward, 0);
        let background = backward.wants(0).then_some(inputs[0]);
        let (samples, dy) = (self.coverage.samples, backward.gradient());
        let (dbackground, found) = gpu::backward(drawn, numbers, samples, &painted, background, &wanted, dy)?;
        Ok(in_order(inputs.len(), dbackground, found, &lights))
    }
}
