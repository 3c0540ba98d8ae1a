//! A loss of its own, as an operation with a derivative: how far the edges of two images differ.

use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply_one};

/// The mean of |d(a - b)/du|, the difference of horizontal neighbours, over images `a`, `b` `[B,H,W,C]`: a tensor
/// without axes. Gradient with respect to `a` only.
pub fn edge_loss(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply_one(EdgeLoss, &[a, b])
}

struct EdgeLoss;

/// The place of each pixel that has a right neighbour, and the distance to that.
fn neighbours(a: &Tensor) -> Result<(impl Iterator<Item = usize> + use<>, usize)> {
    let [_, _, width, channels] = a.dims("edge_loss")?;
    let row = width * channels;
    Ok(((0..a.numel()).filter(move |at| at % row < row - channels), channels))
}

impl Operation for EdgeLoss {
    fn name(&self) -> &'static str {
        "edge_loss"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let (a, b) = (inputs[0], inputs[1]);
        context.save(a);
        context.save(b);
        let (places, next) = neighbours(a)?;
        let edge = |x: &Tensor, at: usize| x.data()[at + next] - x.data()[at];
        let (sum, count) = places.fold((0.0_f64, 0_u32), |(sum, count), at| {
            (sum + f64::from((edge(a, at) - edge(b, at)).abs()), count + 1)
        });
        Ok(vec![Tensor::full([], (sum / f64::from(count.max(1))) as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [a, b] = backward.saved else { return Ok(vec![None, None]) };
        let (places, next) = neighbours(a)?;
        let places: Vec<usize> = places.collect();
        let share = backward.gradient().item()? / places.len().max(1) as f32;
        let mut gradient = Tensor::zeros(a.shape());
        let edge = |x: &Tensor, at: usize| x.data()[at + next] - x.data()[at];
        for at in places {
            let difference = edge(a, at) - edge(b, at);
            let slope = if difference == 0.0 { 0.0 } else { share * difference.signum() };
            gradient.data_mut()[at + next] += slope;
            gradient.data_mut()[at] -= slope;
        }
        Ok(vec![Some(gradient), None])
    }
}
