//! The faces that are drawn, in pixels, and the edges between them.

use rayon::prelude::*;

use crate::raster::Covered;

/// A face that is drawn. Arrays are by corner, counter-clockwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flat {
    /// Its number among those that may be drawn.
    pub number: u32,
    /// Pixels from the left border of the image and from the **bottom**.
    pub at: [[f64; 2]; 3],
    /// Depths.
    pub z: [f32; 3],
}

/// Cross product: positive if `c` lies to the left of the way from `a` to `b`.
#[inline(always)]
pub(crate) fn turn(a: [f64; 2], b: [f64; 2], c: [f64; 2]) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

impl Flat {
    /// The depth of the nearest corner.
    pub fn nearest(&self) -> f32 {
        self.z[0].min(self.z[1]).min(self.z[2])
    }

    /// Least and greatest coordinates.
    pub fn bounds(&self) -> [[f64; 2]; 2] {
        let [a, b, c] = self.at;
        [0, 1].map(|axis| [a[axis].min(b[axis]).min(c[axis]), a[axis].max(b[axis]).max(c[axis])])
    }

    /// Barycentric coordinates on the screen and depth of a point; `None` outside.
    #[inline(always)]
    pub fn hit(&self, point: [f64; 2]) -> Option<([f64; 3], f64)> {
        let [a, b, c] = self.at;
        let areas = [turn(b, c, point), turn(c, a, point), turn(a, b, point)];
        if !areas.iter().all(|area| *area >= 0.0) {
            return None;
        }
        let total = areas[0] + areas[1] + areas[2];
        let weights = areas.map(|area| area / total);
        let depth = 1.0 / (0..3).map(|k| weights[k] / f64::from(self.z[k])).sum::<f64>();
        Some((weights, depth))
    }
}

/// Barycentric coordinates on the surface of a point of a face, from those on the screen.
#[inline(always)]
pub(crate) fn on_surface(flat: &Flat, weights: [f64; 3], depth: f64) -> [f32; 3] {
    std::array::from_fn(|k| (weights[k] * depth / f64::from(flat.z[k])) as f32)
}

/// One side of a face, as a part of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Side {
    /// The vertices at the ends, ascending, each the first of those at its position.
    ends: [u32; 2],
    /// The face among [`Drawn::faces`].
    pub face: u32,
    /// The side goes from this corner to the next.
    corner: u8,
    /// Whether it goes from the first end to the second. The face is then to the left of that way.
    pub forward: bool,
}

impl Side {
    /// The vertices at the ends of the edge, ascending, each the first of those at its position.
    pub fn ends(&self) -> [u32; 2] {
        self.ends
    }

    /// The side goes from this corner of the face to the next.
    pub fn first_corner(&self) -> usize {
        self.corner as usize
    }

    /// The corners of the face at the edge's first and second end.
    #[inline(always)]
    pub fn corners(&self) -> [usize; 2] {
        let (from, to) = (self.corner as usize, (self.corner as usize + 1) % 3);
        if self.forward { [from, to] } else { [to, from] }
    }
}

/// The faces of an image that are drawn, from near to far, and their edges.
///
/// Sides belong to one edge if their ends are at the same positions, whether or not they have the same index: seams of textures
/// and of objects do not tear a surface.
pub(crate) struct Drawn {
    pub faces: Vec<Flat>,
    sides: Vec<Side>,
    /// Where the sides of each edge begin, and their number.
    starts: Vec<u32>,
}

/// Faces that a thread prepares at a time.
const CHUNK: usize = 2048;

/// The faces that are drawn and come within `margin` pixels of the image of `size` pixels, width and height, in the order of
/// their numbers.
pub(crate) fn flats(image: &Covered<'_>, size: [usize; 2], margin: f64) -> Vec<Flat> {
    let size = size.map(|side| side as f64);
    let flat = |number: usize| {
        let triangle = image.geometry.triangle(number, image.screen, image.samples)?;
        let pixel = |coordinate: f32, side: f64| (f64::from(coordinate) + 1.0) / 2.0 * side;
        let at = [0, 1, 2].map(|k| [pixel(triangle.x[k], size[0]), pixel(triangle.y[k], size[1])]);
        let flat = Flat { number: number as u32, at, z: triangle.z };
        let near = flat.bounds().iter().zip(size).all(|(b, side)| b[0] <= side + margin && b[1] >= -margin);
        near.then_some(flat)
    };
    let all = image.geometry.numbers();
    let chunks: Vec<Vec<Flat>> = (0..all.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| (chunk * CHUNK..((chunk + 1) * CHUNK).min(all)).filter_map(flat).collect())
        .collect();
    chunks.into_iter().flatten().collect()
}

/// From near to far, of equals the lower number first.
fn by_depth(faces: &[Flat]) -> Vec<Flat> {
    // Depths are above zero, so their bits are in their order; and faces are in that of their numbers.
    let key = |(index, face): (usize, &Flat)| u64::from(face.nearest().to_bits()) << 32 | index as u64;
    let mut keys: Vec<u64> = faces.par_iter().enumerate().map(key).collect();
    keys.par_sort_unstable();
    keys.par_iter().map(|key| faces[*key as u32 as usize]).collect()
}

/// Sorts sides by their ends, of `vertices` vertices, then by face and corner.
fn sort_sides(sides: Vec<Side>, vertices: usize) -> Vec<Side> {
    let mut starts = vec![0u32; vertices + 1];
    sides.iter().for_each(|side| starts[side.ends[0] as usize + 1] += 1);
    (0..vertices).for_each(|vertex| starts[vertex + 1] += starts[vertex]);
    let mut sorted = sides.clone();
    let mut next = starts.clone();
    for side in sides {
        let place = &mut next[side.ends[0] as usize];
        sorted[*place as usize] = side;
        *place += 1;
    }
    // The few of each vertex are sorted apart.
    let (mut rest, mut blocks, mut first) = (&mut sorted[..], Vec::new(), 0);
    for block in starts.chunks(CHUNK) {
        let end = starts[(first + block.len()).min(vertices)] as usize;
        let (own, others) = rest.split_at_mut(end - block[0] as usize);
        rest = others;
        blocks.push((own, block));
        first += block.len();
    }
    blocks.into_par_iter().for_each(|(own, starts)| {
        let ends = starts[1..].iter().map(|end| (end - starts[0]) as usize).chain([own.len()]);
        let mut first = 0;
        for end in ends {
            own[first..end].sort_unstable();
            first = end;
        }
    });
    sorted
}

impl Drawn {
    /// Of faces that touch the image of `size` pixels, width and height.
    pub fn new(image: &Covered<'_>, size: [usize; 2]) -> Self {
        let faces = by_depth(&flats(image, size, 0.0));
        let first = first_at_place(image.screen);
        let sides_of = |(index, face): (usize, &Flat)| {
            let corners = image.geometry.corners(face.number as usize).map(|vertex| first[vertex]);
            [0, 1, 2].map(|corner| {
                let (from, to) = (corners[corner], corners[(corner + 1) % 3]);
                let ends = [from.min(to), from.max(to)];
                Side { ends, face: index as u32, corner: corner as u8, forward: from < to }
            })
        };
        let sides: Vec<[Side; 3]> = faces.par_iter().enumerate().map(sides_of).collect();
        let sides = sort_sides(sides.into_flattened(), image.screen.len());
        let mut starts: Vec<u32> = Vec::with_capacity(sides.len() / 2);
        for (index, side) in sides.iter().enumerate() {
            if index == 0 || sides[index - 1].ends != side.ends {
                starts.push(index as u32);
            }
        }
        starts.push(sides.len() as u32);
        Self { faces, sides, starts }
    }

    pub fn edges(&self) -> usize {
        self.starts.len() - 1
    }

    /// The sides of an edge, at least one.
    pub fn sides(&self, edge: usize) -> &[Side] {
        &self.sides[self.starts[edge] as usize..self.starts[edge + 1] as usize]
    }

    /// The positions of an edge's ends.
    pub fn ends(&self, edge: usize) -> [[f64; 2]; 2] {
        let side = &self.sides(edge)[0];
        side.corners().map(|corner| self.faces[side.face as usize].at[corner])
    }

    /// Whether all faces of an edge are on one side of it on the image.
    pub fn is_silhouette(&self, edge: usize) -> bool {
        let sides = self.sides(edge);
        sides.iter().all(|side| side.forward == sides[0].forward)
    }
}

/// For each vertex the first one that is at the same position.
fn first_at_place(screen: &[[f32; 3]]) -> Vec<u32> {
    // Adding 0 makes both zeros equal.
    let place = |(vertex, at): (usize, &[f32; 3])| (at.map(|x| (x + 0.0).to_bits()), vertex as u32);
    let mut order: Vec<([u32; 3], u32)> = screen.par_iter().enumerate().map(place).collect();
    order.par_sort_unstable();
    let mut first = vec![0; screen.len()];
    let mut last: Option<([u32; 3], u32)> = None;
    for (here, vertex) in order {
        let one = match last {
            Some((there, one)) if there == here => one,
            _ => vertex,
        };
        last = Some((here, one));
        first[vertex as usize] = one;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vertices_at_one_place_are_one() {
        let places = [[0.0, 1.0, 2.0], [1.0, 1.0, 2.0], [-0.0, 1.0, 2.0], [1.0, 1.0, 2.0], [f32::NAN; 3]];
        assert_eq!(first_at_place(&places), [0, 1, 0, 1, 4]);
    }

    #[test]
    fn sides_are_sorted_whatever_their_order() {
        // Vertices of more than one block, some without sides.
        let vertices = 3 * CHUNK + 5;
        let side = |i: usize| {
            let low = (i * 7919 % vertices) as u32 & !1;
            Side {
                ends: [low, low + 1 + i as u32 % 3],
                face: i as u32,
                corner: 0,
                forward: i.is_multiple_of(2),
            }
        };
        let sides: Vec<Side> = (0..20_000).map(side).collect();
        let mut right = sides.clone();
        right.sort_unstable();
        assert!(sort_sides(sides, vertices) == right);
        assert!(sort_sides(Vec::new(), 0).is_empty());
    }

    #[test]
    fn a_point_is_inside_with_its_depth() {
        let flat = Flat { number: 0, at: [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], z: [1.0, 2.0, 4.0] };
        let (weights, depth) = flat.hit([1.0, 1.0]).unwrap();
        assert_eq!(weights, [0.5, 0.25, 0.25]);
        assert!((depth - 1.0 / (0.5 + 0.125 + 0.0625)).abs() < 1e-12);
        let surface = on_surface(&flat, weights, depth);
        assert!((surface.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(flat.hit([0.0, 2.0]).is_some() && flat.hit([-1e-9, 2.0]).is_none());
    }
}
