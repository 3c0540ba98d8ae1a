//! Wavefront OBJ, for programs that do not read glTF: mesh, material and texture in three files.

use std::path::Path;

use relievo_files::{WriteError, write_atomic};

use super::SurfaceMesh;
use crate::canvas::Canvas;

impl SurfaceMesh {
    /// Writes `path`, which ends in `.obj`, and beside it the material (`.mtl`) and the texture (`.texture.png`). Each
    /// file appears whole or not at all, the mesh last, so that the files it names exist.
    ///
    /// # Errors
    /// See [`write_atomic`].
    pub fn write_obj(&self, path: impl AsRef<Path>, texture: &Canvas) -> Result<(), WriteError> {
        let path = path.as_ref();
        let (material, image) = (path.with_extension("mtl"), path.with_extension("texture.png"));
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        texture.write_png(&image)?;
        write_atomic(&material, |file| {
            writeln!(file, "newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {}", name(&image))
        })?;
        write_atomic(path, |file| {
            writeln!(file, "# metres: x right, y up, z towards the viewer")?;
            writeln!(file, "mtllib {}\no surface", name(&material))?;
            for [x, y, z] in &self.positions {
                writeln!(file, "v {x:.7} {y:.7} {z:.7}")?;
            }
            // OBJ counts v from the bottom.
            for [u, v] in &self.texture_coordinates {
                writeln!(file, "vt {u:.6} {:.6}", 1.0 - v)?;
            }
            for [x, y, z] in &self.normals {
                writeln!(file, "vn {x:.5} {y:.5} {z:.5}")?;
            }
            writeln!(file, "usemtl surface\ns 1")?;
            for triangle in &self.triangles {
                let [a, b, c] = triangle.map(|corner| corner + 1);
                writeln!(file, "f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}")?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{mesh, texture};

    /// The numbers on the lines that start with a keyword.
    fn numbers(text: &str, keyword: &str) -> Vec<Vec<f32>> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
        lines.map(|line| line.split([' ', '/']).map(|number| number.parse().unwrap()).collect()).collect()
    }

    #[test]
    fn the_three_files_hold_the_mesh_and_name_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        mesh().write_obj(at("some face.obj"), &texture()).unwrap();
        let text = std::fs::read_to_string(at("some face.obj")).unwrap();
        assert!(text.contains("\nmtllib some face.mtl\n"));
        let material = std::fs::read_to_string(at("some face.mtl")).unwrap();
        assert!(material.ends_with("\nmap_Kd some face.texture.png\n"));
        let image = image::open(at("some face.texture.png")).unwrap().into_rgb8();
        assert_eq!(image.into_raw(), texture().bytes());

        let mesh = mesh();
        let close = |found: &[f32], expected: &[f32], error: f32| {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < error)
        };
        assert!(close(&numbers(&text, "v").concat(), mesh.positions.as_flattened(), 1e-7));
        assert!(close(&numbers(&text, "vn").concat(), mesh.normals.as_flattened(), 1e-5));
        let places = numbers(&text, "vt");
        assert!(places.iter().zip(&mesh.texture_coordinates).all(|(a, b)| close(
            a,
            &[b[0], 1.0 - b[1]],
            1e-6
        )));
        let corners = numbers(&text, "f");
        assert_eq!((places.len(), corners.len()), (mesh.texture_coordinates.len(), mesh.triangles.len()));
        for (found, triangle) in corners.iter().zip(&mesh.triangles) {
            let expected: Vec<f32> = triangle.iter().flat_map(|&corner| [corner as f32 + 1.0; 3]).collect();
            assert_eq!(found, &expected);
        }
    }
}
