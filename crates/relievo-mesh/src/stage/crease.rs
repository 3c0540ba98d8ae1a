//! Smooth surfaces with sharp edges: vertices are split where faces meet at an angle.

use std::collections::HashMap;

use crate::Mesh;

/// The mesh with a vertex of its own for each smooth part of the faces around a vertex: those that meet along edges at
/// less than `angle` degrees. Vertices of equal position are one to begin with, so that meshes from STL files are smooth.
/// Faces keep their order and their texture coordinates.
pub(super) fn split_at_creases(mut mesh: Mesh, angle: f64) -> Mesh {
    mesh.merge_vertices();
    let normals: Vec<[f64; 3]> = mesh.faces.iter().map(|face| unit_normal(&mesh, *face)).collect();
    let least = angle.to_radians().cos();
    let is_smooth = |a: u32, b: u32| {
        let [a, b] = [a, b].map(|face| normals[face as usize]);
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() >= least
    };
    // Corners are numbered 3 * face + place; those of one smooth part have one root.
    let mut parts = Parts((0..mesh.faces.len() as u32 * 3).collect());
    let mut edges: HashMap<[u32; 2], [u32; 2]> = HashMap::with_capacity(mesh.faces.len() * 3 / 2);
    for (face, corners) in mesh.faces.iter().enumerate() {
        for place in 0..3 {
            let (a, b) = (corners[place], corners[(place + 1) % 3]);
            let here = [3 * face + place, 3 * face + (place + 1) % 3].map(|corner| corner as u32);
            // Corners at the lower and at the higher vertex.
            let (edge, here) = if a < b { ([a, b], here) } else { ([b, a], [here[1], here[0]]) };
            match edges.get(&edge) {
                Some(there) if is_smooth(here[0] / 3, there[0] / 3) => {
                    parts.join(here[0], there[0]);
                    parts.join(here[1], there[1]);
                }
                Some(_) => {}
                None => _ = edges.insert(edge, here),
            }
        }
    }
    drop(edges);
    let mut of_root = HashMap::with_capacity(mesh.vertices.len());
    let (mut kept, mut corner) = (Vec::with_capacity(mesh.vertices.len()), 0);
    for vertex in mesh.faces.as_flattened_mut() {
        let new = *of_root.entry(parts.root(corner)).or_insert_with(|| {
            kept.push(*vertex as usize);
            kept.len() as u32 - 1
        });
        *vertex = new;
        corner += 1;
    }
    mesh.vertices = kept.iter().map(|&at| mesh.vertices[at]).collect();
    mesh.vertex_colours = mesh.vertex_colours.map(|colours| kept.iter().map(|&at| colours[at]).collect());
    mesh
}

/// Disjoint sets.
struct Parts(Vec<u32>);

impl Parts {
    fn root(&mut self, of: u32) -> u32 {
        let mut at = of;
        while self.0[at as usize] != at {
            // Halve the way for the next time.
            self.0[at as usize] = self.0[self.0[at as usize] as usize];
            at = self.0[at as usize];
        }
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

fn unit_normal(mesh: &Mesh, face: [u32; 3]) -> [f64; 3] {
    let [a, b, c] = face.map(|corner| mesh.vertices[corner as usize].map(f64::from));
    let [u, v]: [[f64; 3]; 2] = [b, c].map(|end| std::array::from_fn(|axis| end[axis] - a[axis]));
    let normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    let length = normal.iter().map(|value| value * value).sum::<f64>().sqrt();
    normal.map(|value| if length > 0.0 { value / length } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes;

    #[test]
    fn a_cube_has_edges_and_a_sphere_has_none() {
        let cube = split_at_creases(shapes::cube(), 40.0);
        assert_eq!((cube.vertices.len(), cube.faces.len()), (24, 12));
        assert_eq!(split_at_creases(shapes::cube(), 100.0).vertices.len(), 8);
        let sphere = shapes::icosphere(3);
        let mut soup = Mesh::default();
        for face in &sphere.faces {
            let first = soup.vertices.len() as u32;
            soup.vertices.extend(face.map(|corner| sphere.vertices[corner as usize]));
            soup.faces.push([first, first + 1, first + 2]);
        }
        let smooth = split_at_creases(soup, 40.0);
        assert_eq!(smooth.vertices.len(), sphere.vertices.len());
        smooth.check().unwrap();
    }
}
