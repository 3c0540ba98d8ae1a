//! Wavefront OBJ with its materials (MTL), read and written: one file, because both sides and MTL share the words of the
//! format.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relievo_files::mark::mark_png;
use relievo_files::{WriteError, write_atomic};

use super::images::Images;
use super::{Fault, Place, ReadError, Resolver, checked, in_unit, transform_coordinates};
use crate::mesh::{Image, Material, Mesh, TextureCoordinates, Wrap};

/// The colour of faces without a material, and of materials without a `Kd`.
const GREY: [f32; 3] = [0.5; 3];

/// How many material libraries a file may name: each is read once for each name.
const MAX_LIBRARIES: usize = 1000;

/// The texture coordinate of a corner that has none.
const NONE: u32 = u32::MAX;

pub(super) fn read(bytes: &[u8], resolver: &mut Resolver<'_>) -> Result<Mesh, ReadError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let what = "text in UTF-16".into();
        return Err(Fault::Unsupported { what, advice: "save it as UTF-8" }.at(Place::File));
    }
    let mut parser = Parser::default();
    for (number, line) in lines(bytes) {
        parser.line = number;
        parser.line(&line).map_err(|fault| fault.at(Place::Line(number)))?;
    }
    parser.finish(resolver)
}

/// The lines of a text with their numbers, counted from 1. A line that ends in a backslash goes on in the next one.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Cow<'_, [u8]>)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut physical = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).zip(1..);
    std::iter::from_fn(move || {
        let (first, number) = physical.next()?;
        let Some(start) = first.strip_suffix(b"\\") else { return Some((number, Cow::Borrowed(first))) };
        let mut joined = start.to_vec();
        for (next, _) in physical.by_ref() {
            joined.push(b' ');
            match next.strip_suffix(b"\\") {
                Some(next) => joined.extend(next),
                None => {
                    joined.extend(next);
                    break;
                }
            }
        }
        Some((number, Cow::Owned(joined)))
    })
}

/// The words of a line up to a comment.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.take_while(|word| word[0] != b'#')
}

/// The first word and what follows it.
fn keyword(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    (keyword, rest.trim_ascii())
}

fn number(word: &[u8]) -> Result<f32, Fault> {
    let number = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.ok_or_else(|| Fault::unexpected("a number", word))
}

/// A name, which may have spaces and quotes.
fn name(words: &[u8]) -> String {
    let unquoted = words.strip_prefix(b"\"").and_then(|words| words.strip_suffix(b"\"")).unwrap_or(words);
    String::from_utf8_lossy(unquoted).into_owned()
}

/// The largest index so far and the line that has it, to be compared with the number of elements in the end: faces may
/// come before their vertices.
#[derive(Default)]
struct Largest {
    index: u32,
    at: Option<usize>,
}

#[derive(Default)]
struct Parser {
    mesh: Mesh,
    /// As in the file; empty if no vertex has a colour.
    colours: Vec<[f32; 3]>,
    coordinates: Vec<[f32; 2]>,
    /// Empty while no face has coordinates.
    coordinate_faces: Vec<Option<[u32; 3]>>,
    /// Vertices and texture coordinates.
    largest: [Largest; 2],
    /// The names of materials in order of use.
    used: Vec<String>,
    numbers: HashMap<String, u32>,
    current: Option<u32>,
    /// What follows `mtllib`, with its line, once for each text.
    libraries: Vec<(usize, Vec<u8>)>,
    /// The corners of the face at hand.
    corners: Vec<[u32; 2]>,
    line: usize,
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (keyword, rest) = keyword(line);
        match keyword {
            b"v" => self.vertex(rest),
            b"vt" => {
                let mut words = words(rest);
                let u = number(words.next().unwrap_or_default())?;
                let v = words.next().map_or(Ok(0.0), number)?;
                self.coordinates.push([u, v]);
                Ok(())
            }
            b"f" | b"fo" => self.face(rest),
            b"usemtl" => {
                let name = name(rest);
                let number = self.numbers.entry(name).or_insert_with_key(|name| {
                    self.used.push(name.clone());
                    self.used.len() as u32 - 1
                });
                self.current = Some(*number);
                Ok(())
            }
            b"mtllib" => {
                // Some programs repeat it for each object.
                if self.libraries.iter().any(|(_, names)| names == rest) {
                    return Ok(());
                }
                if self.libraries.len() == MAX_LIBRARIES {
                    return Err(Fault::TooLarge { what: "material libraries", limit: MAX_LIBRARIES });
                }
                self.libraries.push((self.line, rest.to_vec()));
                Ok(())
            }
            b"o" if self.mesh.name.is_empty() => {
                self.mesh.name = String::from_utf8_lossy(rest).into_owned();
                Ok(())
            }
            // Groups, normals, lines, points and free-form surfaces are not part of a mesh here.
            _ => Ok(()),
        }
    }

    fn vertex(&mut self, rest: &[u8]) -> Result<(), Fault> {
        let mut values = [0.0; 7];
        let mut count = 0;
        for word in words(rest) {
            if count < values.len() {
                values[count] = number(word)?;
            }
            count += 1;
        }
        let [x, y, z, r, g, b, _] = values;
        if count < 3 {
            return Err(Fault::unexpected("three coordinates", rest));
        }
        if count >= 6 && self.colours.is_empty() {
            self.colours = vec![[1.0; 3]; self.mesh.vertices.len()];
        }
        self.mesh.vertices.push([x, y, z]);
        if count >= 6 {
            self.colours.push([r, g, b]);
        } else if !self.colours.is_empty() {
            self.colours.push([1.0; 3]);
        }
        Ok(())
    }

    fn face(&mut self, rest: &[u8]) -> Result<(), Fault> {
        self.corners.clear();
        for word in words(rest) {
            let mut parts = word.split(|&byte| byte == b'/');
            let mut index = |which: usize, what, count| -> Result<u32, Fault> {
                let part = parts.next().unwrap_or_default();
                if part.is_empty() && which == 1 {
                    return Ok(NONE);
                }
                let index: Option<i64> = str::from_utf8(part).ok().and_then(|part| part.parse().ok());
                let index = index.ok_or_else(|| Fault::unexpected("indices as in 1, 1/2 or 1//3", word))?;
                let from_zero = if index < 0 { count as i64 + index } else { index - 1 };
                match u32::try_from(from_zero) {
                    Ok(from_zero) if from_zero != NONE => {
                        let largest = &mut self.largest[which];
                        if largest.at.is_none() || from_zero > largest.index {
                            *largest = Largest { index: from_zero, at: Some(self.line) };
                        }
                        Ok(from_zero)
                    }
                    _ => Err(Fault::Index { what, index, count }),
                }
            };
            let vertex = index(0, "vertex", self.mesh.vertices.len())?;
            let place = index(1, "texture coordinate", self.coordinates.len())?;
            self.corners.push([vertex, place]);
        }
        let [first, rest @ ..] = &self.corners[..] else {
            return Err(Fault::unexpected("three corners", rest));
        };
        if rest.len() < 2 {
            return Err(Fault::Unexpected {
                expected: "three corners",
                found: format!("{}", rest.len() + 1),
            });
        }
        for pair in rest.windows(2) {
            let corners = [first, &pair[0], &pair[1]];
            let places = corners.map(|corner| corner[1]);
            let places = places.iter().all(|&place| place != NONE).then_some(places);
            if places.is_some() && self.coordinate_faces.is_empty() {
                self.coordinate_faces = vec![None; self.mesh.faces.len()];
            }
            if places.is_some() || !self.coordinate_faces.is_empty() {
                self.coordinate_faces.push(places);
            }
            if self.current.is_some() && self.mesh.face_materials.is_empty() {
                self.mesh.face_materials = vec![None; self.mesh.faces.len()];
            }
            if self.current.is_some() {
                self.mesh.face_materials.push(self.current);
            }
            self.mesh.faces.push(corners.map(|corner| corner[0]));
        }
        Ok(())
    }

    fn finish(mut self, resolver: &mut Resolver<'_>) -> Result<Mesh, ReadError> {
        let counts = [("vertex", self.mesh.vertices.len()), ("texture coordinate", self.coordinates.len())];
        for (Largest { index, at }, (what, count)) in self.largest.iter().zip(counts) {
            if let Some(line) = *at
                && *index as usize >= count
            {
                let index = i64::from(*index) + 1;
                return Err(Fault::Index { what, index, count }.at(Place::Line(line)));
            }
        }
        if self.mesh.vertices.is_empty() {
            let found = format!("{} lines without one", self.line);
            return Err(Fault::Unexpected { expected: "a vertex (v)", found }.at(Place::File));
        }
        if !self.colours.is_empty() {
            // Some programs count to 255.
            let largest = self.colours.as_flattened().iter().fold(1.0_f32, |a, &b| a.max(b));
            let unit = if largest > 1.0 { 255.0 } else { 1.0 };
            let in_range = |colour: &mut [f32; 3]| {
                *colour = colour.map(|value| in_unit(value / unit));
            };
            self.colours.iter_mut().for_each(in_range);
            self.mesh.vertex_colours = Some(self.colours);
        }
        if !self.coordinate_faces.is_empty() {
            let (coordinates, faces) = (self.coordinates, self.coordinate_faces);
            self.mesh.texture_coordinates = Some(TextureCoordinates { coordinates, faces });
        }
        let mut definitions =
            Definitions { used: &self.numbers, found: HashMap::new(), images: Images::default() };
        for (line, names) in &self.libraries {
            definitions.library(*line, names, resolver)?;
        }
        for (number, name) in self.used.into_iter().enumerate() {
            let definition = definitions.found.remove(&name).unwrap_or_default();
            let [mut scale, mut offset] = [[1.0; 2], [0.0; 2]];
            let mut material = Material { name, colour: definition.colour, ..Material::default() };
            if let Some((image, options)) = definition.image {
                material.image = Some(image);
                material.colour = [1.0; 3];
                material.wrap = [options.wrap; 2];
                [scale, offset] = [options.scale, options.offset];
            }
            self.mesh.materials.push(material);
            if scale != [1.0; 2] || offset != [0.0; 2] {
                transform_coordinates(&mut self.mesh, number as u32, |place| {
                    std::array::from_fn(|axis| place[axis] * scale[axis] + offset[axis])
                });
            }
        }
        Ok(self.mesh)
    }
}

/// A material of an MTL file.
struct Definition {
    colour: [f32; 3],
    image: Option<(Arc<Image>, MapOptions)>,
}

impl Default for Definition {
    fn default() -> Self {
        Self { colour: GREY, image: None }
    }
}

/// What stands between `map_Kd` and the name of the image.
#[derive(Clone, Copy)]
struct MapOptions {
    wrap: Wrap,
    scale: [f32; 2],
    offset: [f32; 2],
}

/// The materials that the mesh uses, from all of its MTL files.
struct Definitions<'a> {
    used: &'a HashMap<String, u32>,
    found: HashMap<String, Definition>,
    images: Images,
}

impl Definitions<'_> {
    /// Reads what a line `mtllib` names: one file, whose name may have spaces, or several files.
    fn library(&mut self, line: usize, names: &[u8], resolver: &mut Resolver<'_>) -> Result<(), ReadError> {
        let whole = name(names);
        let at = |reason, name: String| Fault::Missing { name, reason }.at(Place::Line(line));
        let reason = match resolver(&whole) {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => return self.materials(&whole, &bytes, resolver),
            Err(reason) => reason,
        };
        let several: Vec<String> = words(names).map(name).collect();
        if several.len() < 2 {
            return Err(at(reason, whole));
        }
        for one in several {
            match resolver(&one) {
                Ok(None) => {}
                Ok(Some(bytes)) => self.materials(&one, &bytes, resolver)?,
                // The name with spaces is the likelier one.
                Err(_) => return Err(at(reason, whole)),
            }
        }
        Ok(())
    }

    fn materials(&mut self, path: &str, bytes: &[u8], resolver: &mut Resolver<'_>) -> Result<(), ReadError> {
        let mut current = None;
        for (number, line) in lines(bytes) {
            self.material_line(&mut current, &line, resolver)
                .map_err(|fault| ReadError { path: PathBuf::from(path), ..fault.at(Place::Line(number)) })?;
        }
        Ok(())
    }

    fn material_line(
        &mut self,
        current: &mut Option<String>,
        line: &[u8],
        resolver: &mut Resolver<'_>,
    ) -> Result<(), Fault> {
        let (keyword, rest) = keyword(line);
        if keyword.eq_ignore_ascii_case(b"newmtl") {
            // Those that no face has are passed over, with their images.
            *current = Some(name(rest)).filter(|name| self.used.contains_key(name));
            if let Some(name) = current {
                self.found.insert(name.clone(), Definition::default());
            }
            return Ok(());
        }
        let Some(definition) = current.as_ref().and_then(|name| self.found.get_mut(name)) else {
            return Ok(());
        };
        if keyword.eq_ignore_ascii_case(b"kd") {
            let mut words = words(rest);
            let red = words.next().unwrap_or_default();
            // Spectral curves and CIE colours, which nobody writes.
            if red != b"spectral" && red != b"xyz" {
                let red = number(red)?;
                let mut or_red = || words.next().map_or(Ok(red), number);
                let colour = [red, or_red()?, or_red()?];
                definition.colour = colour.map(in_unit);
            }
        } else if keyword.eq_ignore_ascii_case(b"map_kd") {
            let (options, image) = map_options(rest)?;
            let image = name(image);
            let decoded = match self.images.get(&image) {
                Some(decoded) => Some(decoded),
                None => match resolver(&image) {
                    Ok(Some(bytes)) => Some(self.images.decode(&image, &bytes)?),
                    Ok(None) => None,
                    Err(reason) => return Err(Fault::Missing { name: image, reason }),
                },
            };
            definition.image = decoded.map(|decoded| (decoded, options));
        }
        Ok(())
    }
}

/// Takes the options off a `map_Kd`; the rest is the name of the image.
fn map_options(mut rest: &[u8]) -> Result<(MapOptions, &[u8]), Fault> {
    let mut options = MapOptions { wrap: Wrap::Repeat, scale: [1.0; 2], offset: [0.0; 2] };
    loop {
        let (option, after) = keyword(rest);
        let mut after = after;
        let mut next = || {
            let (value, rest) = keyword(after);
            after = rest;
            value
        };
        match option {
            b"-clamp" => options.wrap = if next() == b"on" { Wrap::ClampToEdge } else { Wrap::Repeat },
            b"-mm" => {
                next();
                next();
            }
            b"-blendu" | b"-blendv" | b"-cc" | b"-boost" | b"-texres" | b"-bm" | b"-imfchan" | b"-type" => {
                next();
            }
            b"-s" | b"-o" | b"-t" => {
                // One to three numbers.
                let mut values = Vec::new();
                while values.len() < 3
                    && let (word, rest) = keyword(after)
                    && let Ok(value) = number(word)
                {
                    values.push(value);
                    after = rest;
                }
                if values.is_empty() {
                    return Err(Fault::unexpected("a number", after));
                }
                let target = match option {
                    b"-s" => &mut options.scale,
                    b"-o" => &mut options.offset,
                    _ => &mut [0.0; 2],
                };
                target.iter_mut().zip(values).for_each(|(target, value)| *target = value);
            }
            b"" => return Err(Fault::unexpected("the name of an image", rest)),
            _ => return Ok((options, rest)),
        }
        rest = after;
    }
}

impl Mesh {
    /// Writes `path`, which ends in `.obj`, and beside it, if there are materials, `NAME.mtl` and images
    /// `NAME.texture.png`, `NAME.texture.1.png` and so on, with the mark of results ([`relievo_files::mark`]). Each file appears whole or not at all, the mesh last, so that the files it names exist.
    /// Numbers have as many digits as it takes to read the same ones back.
    ///
    /// An image with a material's colour is written as their product, because most readers take one or the other.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]) or a file cannot be written.
    pub fn write_obj(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        let path = path.as_ref();
        checked(self).map_err(|error| WriteError { path: path.to_owned(), reason: error.to_string() })?;
        let names = unique_names(&self.materials);
        let library = path.with_extension("mtl");
        if !self.materials.is_empty() {
            let images = self.write_images(path)?;
            write_atomic(&library, |file| {
                for (at, (material, name)) in self.materials.iter().zip(&names).enumerate() {
                    let [r, g, b] = if images[at].is_some() { [1.0; 3] } else { material.colour };
                    writeln!(file, "newmtl {name}\nKd {r} {g} {b}\nillum 1")?;
                    if let Some(image) = &images[at] {
                        let clamp = if material.wrap == [Wrap::ClampToEdge; 2] { "-clamp on " } else { "" };
                        writeln!(file, "map_Kd {clamp}{image}")?;
                    }
                }
                Ok(())
            })?;
        }
        write_atomic(path, |file| {
            if !self.materials.is_empty() {
                writeln!(file, "mtllib {}", file_name(&library))?;
            }
            if !self.name.is_empty() {
                writeln!(file, "o {}", self.name.replace(char::is_control, " "))?;
            }
            self.write_elements(file, &names)
        })
    }

    fn write_elements(&self, file: &mut dyn io::Write, names: &[String]) -> io::Result<()> {
        for (at, [x, y, z]) in self.vertices.iter().enumerate() {
            write!(file, "v {x} {y} {z}")?;
            if let Some(colours) = &self.vertex_colours {
                let [r, g, b] = colours[at];
                write!(file, " {r} {g} {b}")?;
            }
            writeln!(file)?;
        }
        let texture = self.texture_coordinates.as_ref();
        for [u, v] in texture.iter().flat_map(|texture| &texture.coordinates) {
            writeln!(file, "vt {u} {v}")?;
        }
        for [x, y, z] in self.normals.iter().flatten() {
            writeln!(file, "vn {x} {y} {z}")?;
        }
        // Faces without a material come first: nothing ends the use of one.
        let material = |face: usize| self.face_materials.get(face).copied().flatten();
        let has_none = |face: &usize| material(*face).is_none();
        let all = 0..self.faces.len();
        let with = all.clone().filter(|face| !has_none(face));
        let mut current = None;
        for face in all.filter(has_none).chain(with) {
            if material(face) != current {
                current = material(face);
                writeln!(file, "usemtl {}", names[current.expect("those without come first") as usize])?;
            }
            write!(file, "f")?;
            let places = texture.and_then(|texture| texture.faces[face]);
            for (corner, vertex) in self.faces[face].iter().enumerate() {
                let vertex = u64::from(*vertex) + 1;
                write!(file, " {vertex}")?;
                if let Some(places) = places {
                    write!(file, "/{}", u64::from(places[corner]) + 1)?;
                }
                if self.normals.is_some() {
                    write!(file, "{}{vertex}", if places.is_some() { "/" } else { "//" })?;
                }
            }
            writeln!(file)?;
        }
        Ok(())
    }

    /// Writes each image once, and returns the file names of the materials' images.
    fn write_images(&self, path: &Path) -> Result<Vec<Option<String>>, WriteError> {
        let mut written: HashMap<_, String> = HashMap::new();
        let mut names = Vec::new();
        for material in &self.materials {
            let Some(image) = &material.image else {
                names.push(None);
                continue;
            };
            let key = (Arc::as_ptr(image), material.colour.map(f32::to_bits));
            if let Some(name) = written.get(&key) {
                names.push(Some(name.clone()));
                continue;
            }
            let number = written.len();
            let extension =
                if number == 0 { "texture.png".to_owned() } else { format!("texture.{number}.png") };
            let target = path.with_extension(extension);
            let tinted = (material.colour != [1.0; 3]).then(|| image.tinted(material.colour));
            let image = tinted.as_ref().unwrap_or(image);
            write_atomic(&target, |file| file.write_all(&mark_png(&image.png()?)))?;
            written.insert(key, file_name(&target));
            names.push(Some(file_name(&target)));
        }
        Ok(names)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names that readers tell apart: without spaces, each different, none empty.
fn unique_names(materials: &[Material]) -> Vec<String> {
    let mut taken = HashMap::new();
    let mut names = Vec::new();
    for material in materials {
        let plain = material.name.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
        let plain = if plain.is_empty() { "material".to_owned() } else { plain };
        let mut name = plain.clone();
        while let Some(count) = taken.get_mut(&name) {
            *count += 1;
            name = format!("{plain}.{count}");
        }
        taken.insert(name.clone(), 0_usize);
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::MeshFormat;

    fn open(text: &str) -> Result<Mesh, ReadError> {
        Mesh::from_bytes(text.as_bytes(), MeshFormat::Obj, &mut |_| Ok(None))
    }

    /// From files in memory; others are missing.
    fn open_with(text: &str, files: &[(&str, &[u8])]) -> Result<Mesh, ReadError> {
        let mut resolver = |name: &str| {
            let found = files.iter().find(|(known, _)| *known == name);
            found.map(|(_, bytes)| Some(bytes.to_vec())).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        Mesh::from_bytes(text.as_bytes(), MeshFormat::Obj, &mut resolver)
    }

    const SQUARE: &str = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n";

    #[test]
    fn faces_are_read_in_all_their_forms() {
        for faces in [
            "f 1 2 3 4",
            "f 1/1/1 2/1/1 3/1/1 4/1/1",
            "f 1//7 2//7 3//7 4//7",
            "f -4 -3 -2 -1",
            "f 1/ 2/ 3/ 4/ # a comment",
            "g a b\ns 1\no x\nf 1 2 \\\r\n 3 \\\n4",
            "f\t1  2 3\r\n\r\nf 1 3 4\r",
        ] {
            let mesh = open(&format!("\u{feff}# made by hand\n{SQUARE}vt 0.5 0.5\n{faces}\n")).unwrap();
            assert_eq!((mesh.vertices.len(), &mesh.faces[..]), (4, &[[0, 1, 2], [0, 2, 3]][..]), "{faces}");
            assert_eq!(mesh.texture_coordinates.is_some(), faces.contains("1/1"));
            assert!(mesh.materials.is_empty() && mesh.face_materials.is_empty());
        }
        // Faces may come before what they name; some may lack coordinates.
        let mesh =
            open(&format!("o first\no second\nf 1 2 3\nf 1/1 3/2 4/1\n{SQUARE}vt 0 1\nvt 0.25\n")).unwrap();
        let texture = mesh.texture_coordinates.unwrap();
        assert_eq!(texture.coordinates, [[0.0, 1.0], [0.25, 0.0]]);
        assert_eq!(texture.faces, [None, Some([0, 1, 0])]);
        assert_eq!(mesh.name, "first");
    }

    #[test]
    fn vertex_colours_are_read_in_both_scales() {
        let mesh = open("v 0 0 0\nv 1 0 0 0.5 0.25 1\nv 0 1 0 0 0 0 1\nv 1 1 1 1\n").unwrap();
        let colours = [[1.0; 3], [0.5, 0.25, 1.0], [0.0; 3], [1.0; 3]];
        assert_eq!(mesh.vertex_colours.unwrap(), colours);
        let mesh = open("v 0 0 0 255 0 51\n").unwrap();
        assert_eq!(mesh.vertex_colours.unwrap(), [[1.0, 0.0, 0.2]]);
    }

    #[test]
    fn materials_come_from_libraries_with_their_images() {
        let png = |value: u8| Image { width: 1, height: 1, rgb: vec![value; 3] }.png().unwrap();
        let library =
            b"newmtl unused\nmap_Kd missing.png\nnewmtl red paint\nKd 1 0.5 .25\nnewmtl grey\nKd 0.2
newmtl wood\nKd 0 0 0\nmap_Kd -s 2 3 1 -o 0.5 -clamp on -bm 0.5 -mm 0 1 oak wood.png\n";
        let other = b"newmtl stone\nmap_kd stone.png\n";
        let faces = "mtllib my own.mtl\nmtllib other.mtl third.mtl\nf 1 2 3\nusemtl red paint\nf 1 2 3\nusemtl wood\nf 1/1 2/1 3/1
usemtl stone\nf 1/1 2/1 3/1\nusemtl unknown\nf 1 2 3\nusemtl red paint\nf 1 2 3\nusemtl grey\nf 1 2 3\n";
        let (oak, stone) = (png(90), png(30));
        let files: [(&str, &[u8]); 5] = [
            ("my own.mtl", library),
            ("other.mtl", other),
            ("third.mtl", b""),
            ("oak wood.png", &oak),
            ("stone.png", &stone),
        ];
        let mesh = open_with(&format!("{SQUARE}vt 1 1\n{faces}"), &files).unwrap();
        let names: Vec<&str> = mesh.materials.iter().map(|material| material.name.as_str()).collect();
        assert_eq!(names, ["red paint", "wood", "stone", "unknown", "grey"]);
        let expected = [None, Some(0), Some(1), Some(2), Some(3), Some(0), Some(4)];
        assert_eq!(mesh.face_materials, expected);
        let colours: Vec<_> = mesh.materials.iter().map(|material| material.colour).collect();
        assert_eq!(colours, [[1.0, 0.5, 0.25], [1.0; 3], [1.0; 3], [0.5; 3], [0.2; 3]]);
        let wood = &mesh.materials[1];
        assert_eq!((wood.image.as_ref().unwrap().rgb[0], wood.wrap), (90, [Wrap::ClampToEdge; 2]));
        // Scaled and moved for this material alone.
        let texture = mesh.texture_coordinates.as_ref().unwrap();
        let place = |face: usize| texture.coordinates[texture.faces[face].unwrap()[0] as usize];
        assert_eq!([place(2), place(3)], [[2.5, 3.0], [1.0, 1.0]]);

        let text = format!("{SQUARE}vt 1 1\n{faces}");
        let error = open_with(&text, &[&files[..2], &files[3..]].concat()).unwrap_err().to_string();
        assert!(error.contains("line 7: it names \"other.mtl third.mtl\""), "{error}");
        let error = open_with(&text, &files[..3]).unwrap_err();
        assert_eq!((error.path.to_str().unwrap(), &error.place), ("my own.mtl", &Place::Line(9)));
        assert!(error.to_string().contains("it names \"oak wood.png\", which cannot be read"), "{error}");
        // Without any library, the colours are grey.
        let bare = open(&format!("{SQUARE}vt 1 1\n{faces}")).unwrap();
        assert!(bare.materials.iter().all(|material| material.colour == GREY && material.image.is_none()));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str| open(&format!("{SQUARE}{text}")).unwrap_err().to_string();
        for (text, expected) in [
            ("g \\\n\\\na\nf 1 2 5", "line 8: vertex 5 does not exist"),
            ("f 1 2 5", "cannot read the mesh, line 5: vertex 5 does not exist; there are 4"),
            ("f 1 2 -5", "line 5: vertex -5 does not exist"),
            ("f 1 2 0", "line 5: vertex 0 does not exist"),
            ("f 1/1 2/1 3/1", "line 5: texture coordinate 1 does not exist; there are 0"),
            ("f 1 2", "line 5: three corners expected, found \"2\""),
            ("f", "line 5: three corners expected"),
            ("f 1 2 x", "line 5: indices as in 1, 1/2 or 1//3 expected, found \"x\""),
            ("f 1 2 99999999999999999999", "line 5: indices"),
            ("f 1 2 4294967296", "line 5: vertex 4294967296 does not exist"),
            ("\nv 1 2", "line 6: three coordinates expected, found \"1 2\""),
            ("v 1 2,5 3", "line 5: a number expected, found \"2,5\""),
            ("vt", "line 5: a number expected, found \"\""),
        ] {
            let message = error(text);
            assert!(message.contains(expected), "{message:?} should have {expected:?}");
        }
        let libraries: String = (0..1001).map(|at| format!("mtllib {at}\nmtllib 0\n")).collect();
        assert!(error(&libraries).contains("line 2005: it has more than 1000 material libraries"));
        assert!(open("").unwrap_err().to_string().contains("a vertex (v) expected"));
        assert!(open("<html>").unwrap_err().to_string().contains("1 lines without one"));
        let utf16 = Mesh::from_bytes(b"\xff\xfev\0", MeshFormat::Obj, &mut |_| Ok(None));
        assert!(utf16.unwrap_err().to_string().contains("UTF-16"));
    }

    #[test]
    fn options_before_an_image_are_passed_over() {
        for (text, name, scale, offset) in [
            ("a b.png", "a b.png", [1.0; 2], [0.0; 2]),
            ("-blendu on -cc off -texres 512 -type sphere -t 1 1 1 -imfchan r x", "x", [1.0; 2], [0.0; 2]),
            ("-o .5 -s 2 2 2 12.png", "12.png", [2.0, 2.0], [0.5, 0.0]),
        ] {
            let (options, rest) = map_options(text.as_bytes()).unwrap();
            assert_eq!((rest, options.scale, options.offset), (name.as_bytes(), scale, offset));
        }
        assert!(
            map_options(b"-s x.png").is_err()
                && map_options(b"").is_err()
                && map_options(b"-clamp on").is_err()
        );
    }

    #[test]
    fn names_are_made_different() {
        let material = |name: &str| Material { name: name.into(), ..Material::default() };
        let names = unique_names(&["a b", "", "a_b", "a_b.1", "a b"].map(material));
        assert_eq!(names, ["a_b", "material", "a_b.1", "a_b.1.1", "a_b.2"]);
    }
}
