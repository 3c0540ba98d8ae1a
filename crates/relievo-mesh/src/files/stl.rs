//! STL: triangles without shared vertices, in text or binary. Equal positions become one vertex.

use std::io;
use std::path::Path;

use relievo_files::{WriteError, write_atomic};

use super::{Fault, Place, ReadError, checked};
use crate::attributes::face_normals;
use crate::mesh::Mesh;

/// The header of binary files, and the number of triangles behind it.
const HEADER: usize = 84;

/// A normal, three positions, two bytes of attributes.
const TRIANGLE: usize = 50;

pub(super) fn read(bytes: &[u8]) -> Result<Mesh, ReadError> {
    // Binary files may begin with "solid" as well, so the size decides.
    let announced =
        bytes.get(HEADER - 4..HEADER).map(|count| u32::from_le_bytes(count.try_into().expect("four")));
    let size = announced.map(|count| HEADER as u64 + u64::from(count) * TRIANGLE as u64);
    let is_text = bytes.trim_ascii_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"solid"));
    let mut mesh = match size {
        Some(size) if size == bytes.len() as u64 || !is_text => {
            let triangles = bytes[HEADER..].chunks_exact(TRIANGLE);
            if size > bytes.len() as u64 {
                return Err(Fault::Truncated("the triangles").at(Place::Byte(bytes.len())));
            }
            let count = announced.unwrap_or_default() as usize;
            soup(triangles.take(count).flat_map(|triangle| {
                let value = |at: usize| f32::from_le_bytes(triangle[at..at + 4].try_into().expect("four"));
                [12, 24, 36].map(|at| [value(at), value(at + 4), value(at + 8)])
            }))
        }
        _ if is_text => text(bytes)?,
        _ => return Err(Fault::Truncated("the header").at(Place::Byte(bytes.len()))),
    };
    mesh.merge_vertices();
    Ok(mesh)
}

fn text(bytes: &[u8]) -> Result<Mesh, ReadError> {
    let mut corners = Vec::new();
    let mut name = String::new();
    let mut triangles = 0;
    for (line, content) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let at = |fault: Fault| fault.at(Place::Line(line + 1));
        let content = content.trim_ascii();
        let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(keyword) = words.next().map(<[u8]>::to_ascii_lowercase) else { continue };
        match &keyword[..] {
            b"vertex" => {
                let mut vertex = [0.0; 3];
                for value in &mut vertex {
                    let word = words.next().unwrap_or_default();
                    let number = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
                    *value = number.ok_or_else(|| at(Fault::unexpected("a number", word)))?;
                }
                corners.push(vertex);
            }
            b"endloop" => {
                triangles += 1;
                if corners.len() != 3 * triangles {
                    return Err(at(Fault::unexpected("three vertices before the end of a loop", content)));
                }
            }
            b"solid" if name.is_empty() => {
                name = String::from_utf8_lossy(content[5..].trim_ascii()).into_owned();
            }
            b"solid" | b"facet" | b"outer" | b"endfacet" | b"endsolid" => {}
            _ => {
                return Err(at(Fault::unexpected(
                    "facet, outer, vertex, endloop, endfacet or endsolid",
                    content,
                )));
            }
        }
    }
    if corners.len() != 3 * triangles {
        return Err(Fault::Truncated("a loop").at(Place::Byte(bytes.len())));
    }
    Ok(Mesh { name, ..soup(corners.into_iter()) })
}

/// Each three vertices are a face.
fn soup(vertices: impl Iterator<Item = [f32; 3]>) -> Mesh {
    let vertices: Vec<_> = vertices.collect();
    let faces = (0..vertices.len() as u32 / 3).map(|face| [3 * face, 3 * face + 1, 3 * face + 2]).collect();
    Mesh::new(vertices, faces)
}

impl Mesh {
    /// Writes a binary STL file, whole or not at all: triangles with their normals and nothing else. STL knows no unit;
    /// programs that print or mill take it for millimetres.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]), it has more than 4,294,967,295 faces, or the file cannot be written.
    pub fn write_stl(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| self.write_stl_to(file))
    }

    /// The file of [`Mesh::write_stl`] in memory.
    ///
    /// # Errors
    /// As [`Mesh::write_stl`].
    pub fn to_stl(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER + TRIANGLE * self.faces.len());
        self.write_stl_to(&mut bytes)?;
        Ok(bytes)
    }

    fn write_stl_to(&self, file: &mut dyn io::Write) -> io::Result<()> {
        checked(self)?;
        let count = u32::try_from(self.faces.len())
            .map_err(|_| io::Error::other("an STL file has at most 4,294,967,295 triangles"))?;
        // The header must not begin with "solid": programs would take the file for text.
        let mut header = [b' '; HEADER];
        header[..7].copy_from_slice(b"relievo");
        header[HEADER - 4..].copy_from_slice(&count.to_le_bytes());
        file.write_all(&header)?;
        for (face, normal) in self.faces.iter().zip(face_normals(&self.vertices, &self.faces)) {
            let corners = face.map(|corner| self.vertices[corner as usize]);
            let mut triangle = [0; TRIANGLE];
            let numbers = std::iter::once(normal).chain(corners).flatten();
            for (bytes, number) in triangle.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *bytes = number.to_le_bytes();
            }
            file.write_all(&triangle)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::MeshFormat;

    const TEXT: &str = "solid a square\n facet normal 0 0 1\n  outer loop\n   vertex 0 0 0\n   vertex 1 0 0
   vertex 1 1 0\n  endloop\n endfacet\nfacet normal 0 0 1\r\nouter loop\r\nvertex 0 0 0\r\nVERTEX 1 1 0\r
vertex -0 1e0 0\r\nendloop\r\nendfacet\nendsolid a square\n";

    fn open(bytes: &[u8]) -> Result<Mesh, ReadError> {
        Mesh::from_bytes(bytes, MeshFormat::Stl, &mut |_| Ok(None))
    }

    #[test]
    fn both_kinds_hold_the_same_and_share_vertices() {
        let text = open(TEXT.as_bytes()).unwrap();
        assert_eq!((text.name.as_str(), text.vertices.len()), ("a square", 4));
        assert_eq!(text.faces, [[0, 1, 2], [0, 2, 3]]);
        // The header may say solid.
        let mut binary = text.to_stl().unwrap();
        assert_eq!(binary.len(), HEADER + 2 * TRIANGLE);
        let normal = binary[HEADER..][..12].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        assert_eq!(normal.collect::<Vec<_>>(), [0.0, 0.0, 1.0]);
        binary[..5].copy_from_slice(b"solid");
        let read = open(&binary).unwrap();
        assert_eq!((read.vertices, read.faces), (text.vertices, text.faces));
        binary[0] = b'x';
        let error = open(&binary[..binary.len() - 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot read the mesh, byte 183: the file ends within the triangles; it is damaged or was not copied \
             completely"
        );
    }

    #[test]
    fn mistakes_in_text_are_found() {
        let changed =
            |from: &str, to: &str| open(TEXT.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(
            changed("vertex 1 0 0", "vertex 1 zero 0").contains("line 5: a number expected, found \"zero\"")
        );
        assert!(changed("   vertex 1 1 0\n", "").contains("line 6: three vertices"));
        assert!(changed("endfacet", "endfacets").contains("line 8"));
        assert!(open(b"solid\nvertex 0 0 0").unwrap_err().to_string().contains("ends within a loop"));
        assert!(open(b"").unwrap_err().to_string().contains("ends within the header"));
    }
}
