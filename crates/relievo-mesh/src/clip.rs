//! Faces that reach behind the camera.

use std::sync::Arc;

use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply_one};

use crate::Faces;
use crate::check::{as_vectors, vectors};
use crate::cuda::clip as gpu;
use crate::raster::{Part, Piece};
use crate::vector::{Vector, add, scale, sub};

/// What becomes of faces that reach the plane of the camera or lie behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BehindCamera {
    /// They are cut at the near plane, into one triangle or two. Gradients go through the cut.
    #[default]
    Cut,
    /// They are not drawn.
    Drop,
}

/// Faces are cut if a corner is nearer than this share of `near`. Of others the depth of samples decides what is nearer than
/// `near`; on the screen their corners are not so far out that f32 misses samples.
const SHARE: f32 = 1.0 / 16.0;

/// Corners further away are as good as not finite.
const FURTHEST: f32 = 1e15;

/// The cut of an edge with the plane z = `near`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// The ends, the one behind first.
    ends: [u32; 2],
}

/// Where the edge meets the plane: `b` share of the second end.
#[inline(always)]
fn share(near: f32, behind: Vector, before: Vector) -> f32 {
    (near - behind[2]) / (before[2] - behind[2])
}

/// Cuts the faces of vertices `seen` `[V, 3]` in the axes of a camera: the vertices that are to be projected, with those of
/// cuts behind the others, and the faces. Gradient of a cut vertex a + s (b - a), s = (near - za) / (zb - za): exact.
pub(crate) fn cut(seen: &Tensor, faces: &Faces, near: f32, behind: BehindCamera) -> Result<(Tensor, Part)> {
    let count = vectors("render", "vertices", seen)?;
    faces.check("render", count)?;
    let whole =
        |vertices: &Tensor| Part { faces: faces.clone(), pieces: None, vertices: vertices.shape()[0] };
    let some_behind = || match seen.device() {
        Device::Cpu => Ok(as_vectors(seen).iter().any(|place| place[2] < near * SHARE)),
        Device::Cuda(_) => gpu::some_behind(seen, near * SHARE),
    };
    if behind == BehindCamera::Drop || !some_behind()? {
        // Faces with z <= 0 are not drawn anyway.
        return Ok((seen.clone(), whole(seen)));
    }
    // On a GPU, too, the list of faces is made here.
    let here = seen.to_device(Device::Cpu)?;
    let places = as_vectors(&here);
    let (mut list, mut pieces, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    for (index, face) in faces.as_slice().iter().enumerate() {
        let whole = Piece { face: index as u32, corners: None };
        let depths = face.map(|index| places[index as usize][2]);
        let reaches_behind = depths.iter().any(|depth| *depth < near * SHARE);
        let behind = depths.map(|depth| reaches_behind && depth < near);
        match behind.iter().filter(|behind| **behind).count() {
            0 => {
                list.push(*face);
                pieces.push(whole);
            }
            3 => {}
            hidden => {
                // In an order in which the corner that is alone on its side comes first.
                let alone = behind.iter().position(|behind| *behind == (hidden == 1)).expect("one is alone");
                let [a, b, c] = [0, 1, 2].map(|k| (alone + k) % 3);
                // Written so that NaN is too far, too.
                let near_enough = |index: &u32| places[*index as usize].iter().all(|x| x.abs() <= FURTHEST);
                if !face.iter().all(near_enough) {
                    continue;
                }
                let unit = |k: usize| -> Vector { std::array::from_fn(|i| f32::from(i == k)) };
                let mut point = |from: usize, to: usize| {
                    let ends = if hidden == 1 { [face[from], face[to]] } else { [face[to], face[from]] };
                    let [behind, before] = ends.map(|index| places[index as usize]);
                    let s = share(near, behind, before);
                    let (first, second) = if hidden == 1 { (from, to) } else { (to, from) };
                    let weights = add(scale(unit(first), 1.0 - s), scale(unit(second), s));
                    cuts.push(Cut { ends });
                    ((count + cuts.len() - 1) as u32, weights)
                };
                let (ab, ac) = (point(a, b), point(a, c));
                let [a, b, c] = [a, b, c].map(|k| (face[k], unit(k)));
                let mut add = |corners: [(u32, Vector); 3]| {
                    list.push(corners.map(|(vertex, _)| vertex));
                    pieces.push(Piece { corners: Some(corners.map(|(_, weights)| weights)), ..whole });
                };
                if hidden == 1 {
                    add([ab, b, c]);
                    add([ab, c, ac]);
                } else {
                    add([a, ab, ac]);
                }
            }
        }
    }
    let vertices = match cuts.is_empty() {
        true => seen.clone(),
        false => apply_one(AppendCuts { cuts, near }, &[seen])?,
    };
    let pieces: Arc<[Piece]> = pieces.into();
    let part = Part { faces: Faces::new(list), pieces: Some(pieces), vertices: vertices.shape()[0] };
    Ok((vertices, part))
}

/// The vertices, and behind them those of the cuts.
struct AppendCuts {
    cuts: Vec<Cut>,
    near: f32,
}

impl AppendCuts {
    fn ends(&self) -> Vec<[u32; 2]> {
        self.cuts.iter().map(|cut| cut.ends).collect()
    }
}

impl Operation for AppendCuts {
    fn name(&self) -> &'static str {
        "cut_at_near"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        context.save(inputs[0]);
        let seen = as_vectors(inputs[0]);
        let mut all = Tensor::empty([seen.len() + self.cuts.len(), 3]);
        let (own, cuts) = all.data_mut().as_chunks_mut::<3>().0.split_at_mut(seen.len());
        own.copy_from_slice(seen);
        for (to, cut) in cuts.iter_mut().zip(&self.cuts) {
            let [behind, before] = cut.ends.map(|index| seen[index as usize]);
            // From the end that is closer to the plane: the other may be so far away that nothing is left of a sum.
            let along = sub(before, behind);
            let close = if self.near - behind[2] < before[2] - self.near { behind } else { before };
            let by = (self.near - close[2]) / along[2];
            *to = [close[0] + by * along[0], close[1] + by * along[1], self.near];
        }
        Ok(vec![all])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let seen = as_vectors(&backward.saved[0]);
        let (own, of_cuts) = as_vectors(backward.gradient()).split_at(seen.len());
        let mut gradient = Tensor::new(own.as_flattened(), backward.saved[0].shape())?;
        let into = gradient.data_mut().as_chunks_mut::<3>().0;
        for ([gx, gy, _], cut) in of_cuts.iter().zip(&self.cuts) {
            let [behind, before] = cut.ends.map(|index| seen[index as usize]);
            let s = share(self.near, behind, before);
            let along = sub(before, behind);
            // The depth of the cut is fixed; s is moved by both ends.
            let of_share = gx * (along[0] / along[2]) + gy * (along[1] / along[2]);
            for (end, weight) in cut.ends.into_iter().zip([1.0 - s, s]) {
                let g = [gx * weight, gy * weight, -of_share * weight];
                into[end as usize] = add(into[end as usize], g);
            }
        }
        Ok(vec![Some(gradient)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        context.save(inputs[0]);
        Ok(vec![gpu::append(inputs[0], &self.ends(), self.near)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let seen = &backward.saved[0];
        Ok(vec![Some(gpu::append_gradients(seen, &self.ends(), self.near, backward.gradient())?)])
    }
}
