//! Stanford PLY, read in its three encodings and written as little-endian binary.
//!
//! Source: Turk, *The PLY Polygon File Format* (1994). Texture coordinates are those of common programs: `s t`, `u v` or
//! `texture_u texture_v` of vertices, a list `texcoord` of faces, images in `comment TextureFile`. Reading and
//! writing share the table of properties and stay in one file.

use std::io;
use std::path::Path;

use relievo_files::{WriteError, write_atomic};

use super::images::Images;
use super::{Fault, Place, ReadError, Resolver, checked, in_unit};
use crate::mesh::{Material, Mesh, TextureCoordinates};

pub(super) fn read(bytes: &[u8], resolver: &mut Resolver<'_>) -> Result<Mesh, ReadError> {
    let (header, start) = Header::parse(bytes)?;
    let mut body = match header.encoding {
        Encoding::Text => Body::Text { bytes: &bytes[start..], line: header.lines + 1 },
        Encoding::Binary { big_endian } => Body::Binary { bytes, at: start, big_endian },
    };
    let mut content = Content::default();
    let mut seen = [false; 2];
    for element in &header.elements {
        match element.name.as_str() {
            "vertex" if !seen[0] => {
                seen[0] = true;
                read_vertices(element, &mut body, &mut content)?;
            }
            "face" if !seen[1] => {
                seen[1] = true;
                read_faces(element, &mut body, &mut content)?;
            }
            "tristrips" if element.count > 0 => {
                let what = "triangle strips (tristrips)".into();
                let fault = Fault::Unsupported { what, advice: "save the mesh with faces" };
                return Err(fault.at(Place::Line(element.line)));
            }
            _ => skip(element, &mut body)?,
        }
    }
    if !seen[0] {
        let found = "a header without it".into();
        return Err(Fault::Unexpected { expected: "element vertex", found }.at(Place::File));
    }
    content.finish(&header.images, resolver)
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Text,
    Binary { big_endian: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Scalar {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "char" | "int8" => Self::I8,
            "uchar" | "uint8" => Self::U8,
            "short" | "int16" => Self::I16,
            "ushort" | "uint16" => Self::U16,
            "int" | "int32" => Self::I32,
            "uint" | "uint32" => Self::U32,
            "float" | "float32" => Self::F32,
            "double" | "float64" => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64)
    }

    /// What a colour of this type is divided by.
    fn unit(self) -> f32 {
        match self {
            Self::I8 => 127.0,
            Self::U8 => 255.0,
            Self::I16 => 32767.0,
            Self::U16 => 65535.0,
            Self::I32 => i32::MAX as f32,
            Self::U32 => u32::MAX as f32,
            Self::F32 | Self::F64 => 1.0,
        }
    }
}

struct Property {
    name: String,
    scalar: Scalar,
    /// The type of the count, for lists.
    list: Option<Scalar>,
}

struct Element {
    name: String,
    count: usize,
    properties: Vec<Property>,
    /// Of the header, where it is declared.
    line: usize,
}

impl Element {
    /// The least size of one of it, in bytes of the file.
    fn least_bytes(&self, encoding_is_text: bool) -> usize {
        let size = |property: &Property| match property.list {
            _ if encoding_is_text => 2,
            Some(count) => count.size(),
            None => property.scalar.size(),
        };
        self.properties.iter().map(size).sum()
    }

    /// How many to make room for: not more than the file can hold.
    fn capacity(&self, body: &Body<'_>) -> usize {
        // The last number of a text needs no space after it.
        let left = body.left() + 1;
        self.count.min(left / self.least_bytes(matches!(body, Body::Text { .. })).max(1))
    }
}

struct Header {
    encoding: Encoding,
    elements: Vec<Element>,
    /// Of `comment TextureFile`.
    images: Vec<String>,
    lines: usize,
}

impl Header {
    /// Returns the header and where the body starts.
    fn parse(bytes: &[u8]) -> Result<(Self, usize), ReadError> {
        let mut header = Self { encoding: Encoding::Text, elements: vec![], images: vec![], lines: 0 };
        let mut encoding = None;
        let mut start = 0;
        loop {
            header.lines += 1;
            let at = |fault: Fault| fault.at(Place::Line(header.lines));
            let rest = &bytes[start..];
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                return Err(at(match header.lines {
                    1 => Fault::unexpected("a line \"ply\"", rest),
                    _ => Fault::Truncated("the header"),
                }));
            };
            start += end + 1;
            let line = rest[..end].trim_ascii();
            if header.lines == 1 {
                if line != b"ply" {
                    return Err(at(Fault::unexpected("a line \"ply\"", line)));
                }
                continue;
            }
            // Comments may be in any encoding.
            let text = String::from_utf8_lossy(line);
            let words: Vec<&str> = text.split_ascii_whitespace().take(6).collect();
            match &words[..] {
                ["end_header", ..] => break,
                ["format", format, ..] => {
                    encoding = Some(match *format {
                        "ascii" => Encoding::Text,
                        "binary_little_endian" => Encoding::Binary { big_endian: false },
                        "binary_big_endian" => Encoding::Binary { big_endian: true },
                        _ => return Err(at(Fault::unexpected("a format: ascii or binary", line))),
                    });
                }
                ["comment", "TextureFile", ..] => {
                    let name = text.split_once("TextureFile").map_or("", |(_, name)| name.trim());
                    header.images.push(name.to_owned());
                }
                ["element", name, count, ..] => {
                    let count =
                        count.parse().map_err(|_| at(Fault::unexpected("a number of elements", line)))?;
                    let (name, line, properties) = ((*name).to_owned(), header.lines, vec![]);
                    header.elements.push(Element { name, count, properties, line });
                }
                ["property", words @ ..] => {
                    let scalar = |name: &str| {
                        Scalar::of(name).ok_or_else(|| at(Fault::unexpected("a type of numbers", line)))
                    };
                    let property = match words {
                        ["list", count, item, name, ..] => {
                            let list = scalar(count)?;
                            if !list.is_integer() {
                                return Err(at(Fault::unexpected(
                                    "a type of whole numbers for a count",
                                    line,
                                )));
                            }
                            Property { name: (*name).to_owned(), scalar: scalar(item)?, list: Some(list) }
                        }
                        [item, name, ..] => {
                            Property { name: (*name).to_owned(), scalar: scalar(item)?, list: None }
                        }
                        _ => return Err(at(Fault::unexpected("a type and a name", line))),
                    };
                    let element = header.elements.last_mut();
                    let element = element.ok_or_else(|| at(Fault::unexpected("an element first", line)))?;
                    element.properties.push(property);
                }
                [] | ["comment" | "obj_info", ..] => {}
                _ => {
                    return Err(at(Fault::unexpected(
                        "format, element, property, comment or end_header",
                        line,
                    )));
                }
            }
        }
        let no_format = || Fault::Unexpected { expected: "format", found: "a header without it".into() };
        header.encoding = encoding.ok_or_else(|| no_format().at(Place::Line(header.lines)))?;
        Ok((header, start))
    }
}

/// What follows the header.
enum Body<'a> {
    Text { bytes: &'a [u8], line: usize },
    Binary { bytes: &'a [u8], at: usize, big_endian: bool },
}

impl Body<'_> {
    fn left(&self) -> usize {
        match self {
            Self::Text { bytes, .. } => bytes.len(),
            Self::Binary { bytes, at, .. } => bytes.len() - at,
        }
    }

    /// Where the next number stands.
    fn place(&mut self) -> Place {
        self.skip_blank();
        match self {
            Self::Text { line, .. } => Place::Line(*line),
            Self::Binary { at, .. } => Place::Byte(*at),
        }
    }

    fn skip_blank(&mut self) {
        if let Self::Text { bytes, line } = self {
            let blank = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
            *line += bytes[..blank].iter().filter(|&&byte| byte == b'\n').count();
            *bytes = &bytes[blank..];
        }
    }

    fn error(&mut self, fault: Fault) -> ReadError {
        fault.at(self.place())
    }

    /// The next number. Whole numbers and f32 are exact in f64.
    fn number(&mut self, scalar: Scalar, within: &'static str) -> Result<f64, ReadError> {
        self.skip_blank();
        match self {
            Self::Text { bytes, line } => {
                let end = bytes.iter().position(u8::is_ascii_whitespace).unwrap_or(bytes.len());
                let (word, rest) = bytes.split_at(end);
                if word.is_empty() {
                    return Err(Fault::Truncated(within).at(Place::Line(*line)));
                }
                *bytes = rest;
                let text = str::from_utf8(word).ok();
                // An f32 goes by way of f32, so that it is rounded once.
                let number = match scalar {
                    Scalar::F32 => text.and_then(|text| text.parse::<f32>().ok()).map(f64::from),
                    _ => text.and_then(|text| text.parse().ok()),
                };
                number.ok_or_else(|| Fault::unexpected("a number", word).at(Place::Line(*line)))
            }
            Self::Binary { bytes, at, big_endian } => {
                let size = scalar.size();
                let Some(found) = bytes.get(*at..*at + size) else {
                    return Err(Fault::Truncated(within).at(Place::Byte(*at)));
                };
                *at += size;
                let mut little = [0; 8];
                little[..size].copy_from_slice(found);
                if *big_endian {
                    little[..size].reverse();
                }
                let [a, b, c, d, ..] = little;
                Ok(match scalar {
                    Scalar::I8 => f64::from(a as i8),
                    Scalar::U8 => f64::from(a),
                    Scalar::I16 => f64::from(i16::from_le_bytes([a, b])),
                    Scalar::U16 => f64::from(u16::from_le_bytes([a, b])),
                    Scalar::I32 => f64::from(i32::from_le_bytes([a, b, c, d])),
                    Scalar::U32 => f64::from(u32::from_le_bytes([a, b, c, d])),
                    Scalar::F32 => f64::from(f32::from_le_bytes([a, b, c, d])),
                    Scalar::F64 => f64::from_le_bytes(little),
                })
            }
        }
    }

    /// The number of items of a list, which is not more than the file can hold.
    fn count(&mut self, of: Scalar, item: Scalar, within: &'static str) -> Result<usize, ReadError> {
        let place = self.place();
        let count = self.number(of, within)?;
        if !(count >= 0.0 && count.fract() == 0.0) {
            return Err(
                Fault::Unexpected { expected: "a number of items", found: count.to_string() }.at(place)
            );
        }
        let size = if matches!(self, Self::Text { .. }) { 1 } else { item.size() };
        let count = count as usize;
        if count > self.left() / size {
            return Err(self.error(Fault::Truncated(within)));
        }
        Ok(count)
    }
}

/// Passes over an element.
fn skip(element: &Element, body: &mut Body<'_>) -> Result<(), ReadError> {
    const WITHIN: &str = "elements other than vertices and faces";
    if element.properties.is_empty() {
        return Ok(());
    }
    for _ in 0..element.count {
        for property in &element.properties {
            let count = match property.list {
                Some(list) => body.count(list, property.scalar, WITHIN)?,
                None => 1,
            };
            for _ in 0..count {
                body.number(property.scalar, WITHIN)?;
            }
        }
    }
    Ok(())
}

/// What was read so far.
#[derive(Default)]
struct Content {
    mesh: Mesh,
    /// (u, v) of each vertex; empty if vertices have none.
    vertex_places: Vec<[f32; 2]>,
    /// (u, v) of corners, and for each face three indices.
    corner_places: Vec<[f32; 2]>,
    corner_faces: Vec<Option<[u32; 3]>>,
    /// `texnumber` of each face; empty if faces have none.
    image_numbers: Vec<i64>,
    largest: u32,
    /// Where that is.
    largest_at: Place,
}

/// What a number of a vertex is.
#[derive(Clone, Copy)]
enum Role {
    Position(usize),
    Colour(usize),
    Place(usize),
    Other,
}

impl Role {
    fn of(property: &Property) -> Self {
        match property.name.as_str() {
            "x" => Self::Position(0),
            "y" => Self::Position(1),
            "z" => Self::Position(2),
            "red" | "r" | "diffuse_red" => Self::Colour(0),
            "green" | "g" | "diffuse_green" => Self::Colour(1),
            "blue" | "b" | "diffuse_blue" => Self::Colour(2),
            "s" | "u" | "texture_u" => Self::Place(0),
            "t" | "v" | "texture_v" => Self::Place(1),
            _ => Self::Other,
        }
    }
}

fn read_vertices(element: &Element, body: &mut Body<'_>, content: &mut Content) -> Result<(), ReadError> {
    const WITHIN: &str = "the vertices";
    let scalars = || element.properties.iter().filter(|property| property.list.is_none());
    let roles: Vec<Role> = element
        .properties
        .iter()
        .map(|property| if property.list.is_none() { Role::of(property) } else { Role::Other })
        .collect();
    let has = |what: fn(Role) -> Option<usize>, count: usize| {
        (0..count).all(|axis| scalars().any(|property| what(Role::of(property)) == Some(axis)))
    };
    let at_header = |fault: Fault| fault.at(Place::Line(element.line));
    if !has(|role| if let Role::Position(axis) = role { Some(axis) } else { None }, 3) {
        let found = "a vertex without them".into();
        return Err(at_header(Fault::Unexpected { expected: "properties x, y and z", found }));
    }
    let has_colours = has(|role| if let Role::Colour(axis) = role { Some(axis) } else { None }, 3);
    let has_places = has(|role| if let Role::Place(axis) = role { Some(axis) } else { None }, 2);
    if element.count > u32::MAX as usize {
        return Err(at_header(Fault::TooLarge { what: "vertices", limit: u32::MAX as usize }));
    }
    let capacity = element.capacity(body);
    content.mesh.vertices.reserve(capacity);
    let mut colours = Vec::with_capacity(if has_colours { capacity } else { 0 });
    content.vertex_places.reserve(if has_places { capacity } else { 0 });
    for _ in 0..element.count {
        let [mut position, mut colour] = [[0.0; 3]; 2];
        let mut place = [0.0; 2];
        for (property, role) in element.properties.iter().zip(&roles) {
            let count = match property.list {
                Some(list) => body.count(list, property.scalar, WITHIN)?,
                None => 1,
            };
            for _ in 0..count {
                let number = body.number(property.scalar, WITHIN)? as f32;
                match *role {
                    Role::Position(axis) => position[axis] = number,
                    Role::Colour(axis) => colour[axis] = number / property.scalar.unit(),
                    Role::Place(axis) => place[axis] = number,
                    Role::Other => {}
                }
            }
        }
        content.mesh.vertices.push(position);
        if has_colours {
            colours.push(colour);
        }
        if has_places {
            content.vertex_places.push(place);
        }
    }
    if has_colours {
        // Some programs write 0 to 255 as floating-point numbers.
        let largest = colours.as_flattened().iter().fold(1.0_f32, |a, &b| a.max(b));
        let unit = if largest > 1.0 { 255.0 } else { 1.0 };
        let in_range = |colour: &mut [f32; 3]| *colour = colour.map(|value| in_unit(value / unit));
        colours.iter_mut().for_each(in_range);
        content.mesh.vertex_colours = Some(colours);
    }
    Ok(())
}

fn read_faces(element: &Element, body: &mut Body<'_>, content: &mut Content) -> Result<(), ReadError> {
    const WITHIN: &str = "the faces";
    let is_indices = |property: &Property| {
        property.list.is_some() && matches!(property.name.as_str(), "vertex_indices" | "vertex_index")
    };
    let Some(indices) = element.properties.iter().find(|property| is_indices(property)) else {
        if element.count == 0 {
            return Ok(());
        }
        let found = "a face without it".into();
        let fault = Fault::Unexpected { expected: "property list vertex_indices", found };
        return Err(fault.at(Place::Line(element.line)));
    };
    if !indices.scalar.is_integer() {
        let found = format!("{:?}", indices.scalar);
        let fault = Fault::Unexpected { expected: "whole numbers as vertex_indices", found };
        return Err(fault.at(Place::Line(element.line)));
    }
    content.mesh.faces.reserve(element.capacity(body));
    let mut corners: Vec<u32> = Vec::new();
    let mut places: Vec<f32> = Vec::new();
    for _ in 0..element.count {
        corners.clear();
        places.clear();
        let mut image = None;
        let place = body.place();
        for property in &element.properties {
            let count = match property.list {
                Some(list) => body.count(list, property.scalar, WITHIN)?,
                None => 1,
            };
            let name = property.name.as_str();
            let [is_indices, is_places] =
                [is_indices(property), property.list.is_some() && name == "texcoord"];
            for _ in 0..count {
                let number = body.number(property.scalar, WITHIN)?;
                if is_indices {
                    corners.push(vertex_index(number).map_err(|fault| body.error(fault))?);
                } else if is_places {
                    places.push(number as f32);
                } else if name == "texnumber" {
                    image = Some(number as i64);
                }
            }
        }
        if corners.len() < 3 {
            let found = format!("{} corners", corners.len());
            return Err(Fault::Unexpected { expected: "a face of three corners or more", found }.at(place));
        }
        let largest = corners.iter().copied().max().unwrap_or_default();
        if largest > content.largest || content.mesh.faces.is_empty() {
            (content.largest, content.largest_at) = (largest, place);
        }
        content.add_polygon(&corners, &places, image);
    }
    Ok(())
}

fn vertex_index(number: f64) -> Result<u32, Fault> {
    if number.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(&number) {
        Ok(number as u32)
    } else {
        Err(Fault::Unexpected { expected: "the index of a vertex", found: number.to_string() })
    }
}

impl Content {
    /// Adds the triangles of a polygon; `places` are (u, v) of its corners, or empty.
    fn add_polygon(&mut self, corners: &[u32], places: &[f32], image: Option<i64>) {
        let has_places = places.len() == 2 * corners.len();
        if has_places && self.corner_faces.is_empty() {
            self.corner_faces = vec![None; self.mesh.faces.len()];
        }
        if image.is_some() && self.image_numbers.is_empty() {
            self.image_numbers = vec![-1; self.mesh.faces.len()];
        }
        let start = self.corner_places.len() as u32;
        if has_places {
            self.corner_places.extend(places.as_chunks::<2>().0);
        }
        for at in 1..corners.len() - 1 {
            self.mesh.faces.push([corners[0], corners[at], corners[at + 1]]);
            if has_places || !self.corner_faces.is_empty() {
                let at = start + at as u32;
                self.corner_faces.push(has_places.then_some([start, at, at + 1]));
            }
            if !self.image_numbers.is_empty() {
                self.image_numbers.push(image.unwrap_or(-1));
            }
        }
    }

    fn finish(mut self, images: &[String], resolver: &mut Resolver<'_>) -> Result<Mesh, ReadError> {
        let count = self.mesh.vertices.len();
        if !self.mesh.faces.is_empty() && self.largest as usize >= count {
            let index = i64::from(self.largest);
            return Err(Fault::Index { what: "vertex", index, count }.at(self.largest_at));
        }
        if !self.corner_faces.is_empty() {
            let (coordinates, faces) = (self.corner_places, self.corner_faces);
            self.mesh.texture_coordinates = Some(TextureCoordinates { coordinates, faces });
        } else if !self.vertex_places.is_empty() {
            let faces = self.mesh.faces.iter().copied().map(Some).collect();
            self.mesh.texture_coordinates =
                Some(TextureCoordinates { coordinates: self.vertex_places, faces });
        }
        if self.mesh.texture_coordinates.is_none() || images.is_empty() {
            return Ok(self.mesh);
        }
        let mut decoded = Images::default();
        for name in images {
            let image = match decoded.get(name) {
                Some(image) => Some(image),
                None => match resolver(name) {
                    Ok(Some(bytes)) => {
                        let image = decoded.decode(name, &bytes);
                        Some(image.map_err(|fault| fault.at(Place::File))?)
                    }
                    Ok(None) => None,
                    Err(reason) => {
                        return Err(Fault::Missing { name: name.clone(), reason }.at(Place::File));
                    }
                },
            };
            let (name, wrap) = (name.clone(), Default::default());
            self.mesh.materials.push(Material { name, image, wrap, ..Material::default() });
        }
        let number =
            |face: usize| self.image_numbers.get(face).map_or(Some(0), |&number| u32::try_from(number).ok());
        let known = |number: &u32| (*number as usize) < self.mesh.materials.len();
        self.mesh.face_materials =
            (0..self.mesh.faces.len()).map(|face| number(face).filter(known)).collect();
        Ok(self.mesh)
    }
}

impl Mesh {
    /// Writes a PLY file, whole or not at all: positions, vertex colours in eight bits, triangles. Materials and texture
    /// coordinates are left out; [`Mesh::write_glb`] has them.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]) or the file cannot be written.
    pub fn write_ply(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| self.write_ply_to(file))
    }

    /// The file of [`Mesh::write_ply`] in memory.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]).
    pub fn to_ply(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_ply_to(&mut bytes)?;
        Ok(bytes)
    }

    fn write_ply_to(&self, file: &mut dyn io::Write) -> io::Result<()> {
        checked(self)?;
        writeln!(file, "ply\nformat binary_little_endian 1.0\nelement vertex {}", self.vertices.len())?;
        writeln!(file, "property float x\nproperty float y\nproperty float z")?;
        if self.vertex_colours.is_some() {
            writeln!(file, "property uchar red\nproperty uchar green\nproperty uchar blue")?;
        }
        writeln!(file, "element face {}\nproperty list uchar int vertex_indices", self.faces.len())?;
        writeln!(file, "end_header")?;
        for (at, vertex) in self.vertices.iter().enumerate() {
            for value in vertex {
                file.write_all(&value.to_le_bytes())?;
            }
            if let Some(colours) = &self.vertex_colours {
                file.write_all(&colours[at].map(|value| (in_unit(value) * 255.0).round() as u8))?;
            }
        }
        for face in &self.faces {
            file.write_all(&[3])?;
            for corner in face {
                file.write_all(&corner.to_le_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::MeshFormat;
    use crate::mesh::Image;

    fn open(bytes: &[u8]) -> Result<Mesh, ReadError> {
        Mesh::from_bytes(bytes, MeshFormat::Ply, &mut |_| Ok(None))
    }

    const HEADER: &str = "comment by hand\nelement vertex 4\nproperty float x\nproperty double y\nproperty float z
property uchar red\nproperty uchar green\nproperty uchar blue\nelement edge 1\nproperty short a\nproperty list ushort char b
element face 1\nproperty uchar flags\nproperty list uint ushort vertex_index\nend_header\n";

    #[test]
    fn all_encodings_hold_the_same() {
        let text = format!(
            "ply\r\nformat ascii 1.0\n{HEADER}0 0 0 255 0 0\n1 0 0 0 255 0\n1 1 0.1 0 0 255\n0 1 0 51 51 51\n-7 2 1 1\n9 4 0 1 2 3"
        );
        let mesh = open(text.as_bytes()).unwrap();
        assert_eq!(mesh.vertices, [[0.0; 3], [1.0, 0.0, 0.0], [1.0, 1.0, 0.1], [0.0, 1.0, 0.0]]);
        assert_eq!(mesh.faces, [[0, 1, 2], [0, 2, 3]]);
        assert_eq!(mesh.vertex_colours.as_ref().unwrap()[3], [0.2; 3]);
        for (format, big) in [("binary_little_endian", false), ("binary_big_endian", true)] {
            let mut bytes = format!("ply\nformat {format} 1.0\n{HEADER}").into_bytes();
            let mut put = |number: &[u8]| {
                let mut number = number.to_vec();
                if big {
                    number.reverse();
                }
                bytes.extend(number);
            };
            for (vertex, colour) in mesh.vertices.iter().zip(mesh.vertex_colours.as_ref().unwrap()) {
                put(&vertex[0].to_le_bytes());
                put(&f64::from(vertex[1]).to_le_bytes());
                put(&vertex[2].to_le_bytes());
                colour.iter().for_each(|value| put(&[(value * 255.0) as u8]));
            }
            put(&(-7_i16).to_le_bytes());
            put(&2_u16.to_le_bytes());
            put(&[1]);
            put(&[1]);
            put(&[9]);
            put(&4_u32.to_le_bytes());
            (0..4_u16).for_each(|corner| put(&corner.to_le_bytes()));
            assert_eq!(open(&bytes).unwrap(), mesh, "{format}");
            let error = open(&bytes[..bytes.len() - 1]).unwrap_err();
            assert!(error.to_string().contains("the file ends within the faces"), "{error}");
        }
    }

    #[test]
    fn images_are_put_on_corners_and_vertices() {
        let image = Image { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let png = image.png().unwrap();
        let mut resolver = |name: &str| {
            assert_eq!(name, "a b.png");
            Ok(Some(png.clone()))
        };
        let start = "ply\nformat ascii 1.0\ncomment TextureFile a b.png\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n";
        let vertices = format!("{start}property float s\nproperty float t\nelement face 1\nproperty list uchar int vertex_indices
end_header\n0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n");
        let corners = format!("{start}element face 1\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord
property int texnumber\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 6 0 0 1 0 0 1 0\n");
        for text in [vertices, corners] {
            let mesh = Mesh::from_bytes(text.as_bytes(), MeshFormat::Ply, &mut resolver).unwrap();
            let texture = mesh.texture_coordinates.as_ref().unwrap();
            assert_eq!(texture.coordinates, [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
            assert_eq!(texture.faces, [Some([0, 1, 2])]);
            assert_eq!(mesh.material(0).unwrap().image.as_deref(), Some(&image));
        }
    }

    #[test]
    fn impossible_files_are_refused_with_their_place() {
        let file = |elements: &str, body: &str| {
            open(format!("ply\nformat ascii 1.0\n{elements}\nend_header\n{body}").as_bytes())
                .unwrap_err()
                .to_string()
        };
        let xyz = "property float x\nproperty float y\nproperty float z";
        let faces = "property list uchar int vertex_indices";
        let two = format!("element vertex 2\n{xyz}\nelement face 1\n{faces}");
        for (message, expected) in [
            (file(&two, "0 0 0\n0 0 0\n3 0 1 2"), "line 12: vertex 2 does not exist; there are 2"),
            (file(&two, "0 0 0\n0 0 0\n3 0 1 -1"), "line 12: the index of a vertex expected, found \"-1\""),
            (
                file(&two, "0 0 0\n0 0 0\n2 0 1"),
                "a face of three corners or more expected, found \"2 corners\"",
            ),
            (file(&two, "0 0 0\n0 zero 0\n"), "line 11: a number expected, found \"zero\""),
            (file(&two, "0 0 0\n"), "ends within the vertices"),
            (file(&format!("element vertex 99999999999999\n{xyz}"), ""), "more than 4294967295 vertices"),
            (file(&format!("element vertex 4000000000\n{xyz}"), "0 0 0"), "ends within the vertices"),
            (
                file(&format!("element vertex 0\n{xyz}\nelement face 4000000000\n{faces}"), ""),
                "ends within the faces",
            ),
            (
                file(
                    &format!("element vertex 0\n{xyz}\nelement x 9\nproperty list uint uchar y"),
                    "4000000000 1",
                ),
                "ends within elements",
            ),
            (
                file(&format!("element vertex 0\n{xyz}\nelement tristrips 1\n{faces}"), ""),
                "line 7: triangle strips",
            ),
            (file("element vertex 1\nproperty float x", "0"), "line 3: properties x, y and z expected"),
            (file("element vertex 1\nproperty half x", "0"), "line 4: a type of numbers expected"),
            (file("property float x", "0"), "line 3: an element first expected"),
            (file("element face 0", ""), "element vertex expected"),
        ] {
            assert!(message.contains(expected), "{message:?} should have {expected:?}");
        }
        assert!(open(b"plywood\n").unwrap_err().to_string().contains("line 1: a line \"ply\""));
        assert!(open(b"ply\nformat ascii 1.0\n").unwrap_err().to_string().contains("line 3"));
    }

    #[test]
    fn elements_without_properties_take_no_time() {
        let text =
            "ply\nformat ascii 1.0\nelement nothing 18446744073709551615\nelement vertex 0\nproperty float x
property float y\nproperty float z\nend_header\n";
        assert_eq!(open(text.as_bytes()).unwrap(), Mesh::default());
    }
}
