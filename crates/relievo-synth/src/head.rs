//! The head that all heads are made from: the packed model with its mouth closed, teeth and a curtain of hair.

use std::ops::Range;
use std::sync::OnceLock;

use crate::asset::{HeadModel, Part, Region};
use crate::sheet::Sheet;
use crate::{curtain, teeth};

/// The head model, unpacked and completed at the first call.
pub(crate) fn head_model() -> &'static HeadModel {
    static MODEL: OnceLock<HeadModel> = OnceLock::new();
    MODEL.get_or_init(|| {
        let mut model = HeadModel::unpack();
        close_mouth(&mut model);
        model.teeth = attach(&mut model, teeth::sheet(), Part::Teeth);
        model.curtain = attach(&mut model, curtain::sheet(), Part::Curtain);
        model.wraps = model.vertices.iter().map(|&vertex| wrap(vertex)).collect();
        model
    })
}

/// Removes the bag behind the lips, all but their lining: the teeth hide it, and it would come out through thin cheeks
/// and chins.
fn close_mouth(model: &mut HeadModel) {
    let in_bag = |vertex: u16| {
        let vertex = usize::from(vertex);
        let [x, y, z] = model.vertices[vertex];
        let lining = z > 1.42 && y > 6.53 && x.abs() < 0.28;
        model.masks[vertex][Region::InsideMouth as usize] > 0.9 && !lining
    };
    let kept: Vec<bool> = model.triangles.iter().map(|corners| !corners.iter().any(|&v| in_bag(v))).collect();
    let mut of_triangle = kept.iter();
    model.triangles.retain(|_| of_triangle.next() == Some(&true));
    let mut of_part = kept.iter();
    model.parts.retain(|_| of_part.next() == Some(&true));
}

/// Adds a sheet and returns its vertices.
fn attach(model: &mut HeadModel, Sheet { vertices, triangles }: Sheet, part: Part) -> Range<usize> {
    let first = model.vertices.len();
    model.masks.resize(first + vertices.len(), [0.0; 5]);
    model.vertices.extend(vertices);
    model.parts.resize(model.parts.len() + triangles.len(), part);
    model.triangles.extend(triangles.iter().map(|corners| corners.map(|corner| corner + first as u16)));
    first..model.vertices.len()
}

/// Coordinates on the surface for textures, in decimetres or nearly: around the head from the middle of the face
/// (negative on the viewer's left), and downwards; mirrored places have opposite first coordinates. They jump behind
/// the head only.
fn wrap([x, y, z]: [f32; 3]) -> [f32; 2] {
    // Also downwards is what leads backwards under chin and nose.
    [0.95 * x.atan2(z - 0.45), y - 0.4 * z]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teeth_and_curtain_are_parts_of_the_head() {
        let model = head_model();
        assert_eq!(model.head_vertices, model.teeth.start);
        assert_eq!((model.teeth.end, model.curtain.end), (model.curtain.start, model.vertices.len()));
        assert_eq!([model.vertices.len(), model.triangles.len()], [model.masks.len(), model.parts.len()]);
        assert_eq!(model.wraps.len(), model.vertices.len());
        assert!(model.triangles.as_flattened().iter().all(|&v| usize::from(v) < model.vertices.len()));
        for part in [Part::Skin, Part::LeftEye, Part::RightEye, Part::Teeth, Part::Curtain] {
            assert!(model.parts.contains(&part), "{part:?}");
        }
    }

    #[test]
    fn a_target_moves_what_its_name_says() {
        let model = head_model();
        let wider = model.shapes.iter().find(|t| t.name == "mouth/mouth-scale-horiz-incr").unwrap();
        let mut positions = model.vertices.clone();
        model.displace(&mut positions, wider, 1.0);
        let width = |positions: &[[f32; 3]]| {
            positions
                .iter()
                .zip(&model.masks)
                .filter(|(_, mask)| mask[Region::Lips as usize] > 0.5)
                .map(|(p, _)| p[0])
                .fold(0.0, f32::max)
        };
        assert!(width(&positions) > width(&model.vertices) + 0.02);
    }
}
