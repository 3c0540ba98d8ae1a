//! What a reconstruction is written as. A new format is an entry in the list below.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use relievo_export::DepthScale;
use relievo_files::mark::JSON_KEY;
use relievo_files::write_atomic;

use crate::mesh::{Mesh, MeshOptions};
use crate::record::{Depth, Record};
use crate::relief::ReliefOptions;
use crate::{Error, Reconstruction, Result, Together};

/// Declares the formats: the one to open first in front, and last the record, which names the files of the others. Each has
/// its name, the endings of its files (in front the one to open), and the function that writes them, which returns whether
/// there was anything to write.
macro_rules! formats {
    ($($(#[$about:meta])+ $format:ident = $name:literal, $endings:expr, $write:expr;)+) => {
        /// A kind of file that results are written as. `FromStr` reads its [name](OutputFormat::name).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum OutputFormat {
            $($(#[$about])+ $format,)+
        }

        impl OutputFormat {
            /// All of them: the one to open first in front, and last the record, which names the files of the others.
            pub const ALL: &'static [Self] = &[$(Self::$format),+];

            /// The name in lower case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$format => $name,)+
                }
            }

            /// The endings of its files' names, behind the stem and a dot; in front the one to open.
            pub fn endings(self) -> &'static [&'static str] {
                match self {
                    $(Self::$format => &$endings,)+
                }
            }

            /// Writes its files and notes them in the record. `false` if there is nothing to write.
            fn write(self, result: &Written<'_>, record: &mut Record) -> Result<bool> {
                let write: fn(&Written<'_>, &mut Record) -> Result<bool> = match self {
                    $(Self::$format => $write,)+
                };
                write(result, record)
            }
        }
    };
}

formats! {
    /// A page for a browser: the object in 3D to turn, to light and to download, and all maps.
    Html = "html", ["html"], |result, record| {
        let Some(mesh) = result.mesh()? else { return Ok(false) };
        result.face.write_page(mesh, result.name, result.path("html"))?;
        record.page = Some(result.file("html"));
        Ok(true)
    };
    /// Everything at a glance, and views from the side: a PNG to look at.
    Panel = "panel", ["panel.png"], |result, record| {
        let panel = match result.together {
            Some(together) => together.panel()?,
            None => result.face.panel()?,
        };
        panel.write_png(result.path("panel.png"))?;
        record.panel = Some(result.file("panel.png"));
        Ok(true)
    };
    /// The textured mesh as binary glTF.
    Glb = "glb", ["glb"], |result, record| {
        result.write_mesh(record, "gltf", "glb", |mesh, path| mesh.write_glb(path))
    };
    /// Depth in the view of the photograph and from the front as 16-bit PNG, normals and albedo as 8-bit PNG.
    Maps = "maps", ["normals.png", "depth.png", "canonical-depth.png", "albedo.png"], write_maps;
    /// The textured mesh as Wavefront OBJ, in three files.
    Obj = "obj", ["obj", "mtl", "texture.png"], |result, record| {
        result.write_mesh(record, "obj", "obj", |mesh, path| mesh.write_obj(path))
    };
    /// The mesh as PLY, with the colours of its texture at its vertices.
    Ply = "ply", ["ply"], |result, record| {
        result.write_mesh(record, "ply", "ply", |mesh, path| mesh.write_ply(path))
    };
    /// The mesh as STL, without colours, in millimetres.
    Stl = "stl", ["stl"], |result, record| {
        result.write_mesh(record, "stl", "stl", |mesh, path| mesh.write_stl(path))
    };
    /// The object as a plate with a raised image, for printing and milling: a closed STL, and the heights as 16-bit PNG.
    Relief = "relief", ["relief.stl", "relief.png"], |result, record| {
        let relief = match result.face.relief(&result.relief) {
            Ok(relief) => relief,
            Err(Error::NoSurface) => return Ok(false),
            Err(error) => return Err(error),
        };
        relief.write_stl(result.path("relief.stl"))?;
        let scale = relief.write_height_map(result.path("relief.png"))?;
        record.add_relief(&relief, result.file("relief.stl"), Depth::new(result.file("relief.png"), scale));
        Ok(true)
    };
    /// Light, viewpoint, camera, ranges of the depths, the place of the face, the quality, and the names of the other
    /// files.
    Json = "json", ["json"], |result, record| {
        let text = serde_json::to_string_pretty(record).expect("a record is plain numbers and names");
        write_atomic(result.path("json"), |file| writeln!(file, "{text}"))?;
        Ok(true)
    };
}

fn write_maps(result: &Written<'_>, record: &mut Record) -> Result<bool> {
    let face = result.face;
    face.draw_normals().write_png(result.path("normals.png"))?;
    face.draw_albedo().write_png(result.path("albedo.png"))?;
    let mask: Vec<u8> = face.mask().values().iter().map(|&seen| u8::from(seen > 0.5)).collect();
    let depth = |ending: &str, depth: &[f32], mask: Option<&[u8]>| {
        let scale = DepthScale::write_png(result.path(ending), depth, face.size(), mask)?;
        Ok::<_, Error>(Depth::new(result.file(ending), scale))
    };
    record.depth = Some(depth("depth.png", face.depth().values(), Some(&mask))?);
    record.canonical_depth = Some(depth("canonical-depth.png", face.canonical_depth().values(), None)?);
    record.normals = Some(result.file("normals.png"));
    record.albedo = Some(result.file("albedo.png"));
    Ok(true)
}

impl FromStr for OutputFormat {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let known = Self::ALL.iter().find(|format| format.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|format| format.name()).collect();
            format!("{name} is none of {}", names.join(", "))
        })
    }
}

/// What is written of a reconstruction.
#[derive(Debug, Clone)]
pub struct OutputOptions {
    /// The kinds of files.
    pub formats: Vec<OutputFormat>,
    /// How meshes are made.
    pub mesh: MeshOptions,
    /// How reliefs are made.
    pub relief: ReliefOptions,
}

impl Default for OutputOptions {
    /// Something to turn, something to look at, something for a viewer, and the numbers: four files.
    fn default() -> Self {
        let formats = vec![OutputFormat::Html, OutputFormat::Panel, OutputFormat::Glb, OutputFormat::Json];
        Self { formats, mesh: MeshOptions::default(), relief: ReliefOptions::default() }
    }
}

/// A reconstruction on its way to the disk.
struct Written<'a> {
    face: &'a Reconstruction,
    /// All photographs of it, if there are several.
    together: Option<&'a Together>,
    folder: &'a Path,
    stem: &'a str,
    /// What the image is called.
    name: &'a str,
    options: MeshOptions,
    relief: ReliefOptions,
    /// Made for the first format that needs it; `None` if the depth makes no surface.
    mesh: OnceCell<Option<Mesh>>,
}

impl Written<'_> {
    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.stem))
    }

    /// The files of a result lie beside each other: the record names them without their folder.
    fn file(&self, ending: &str) -> String {
        self.path(ending).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn mesh(&self) -> Result<Option<&Mesh>> {
        if let Some(mesh) = self.mesh.get() {
            return Ok(mesh.as_ref());
        }
        let mesh = match self.face.mesh(self.options) {
            Ok(mesh) => Some(mesh),
            Err(Error::NoSurface) => None,
            Err(error) => return Err(error),
        };
        Ok(self.mesh.get_or_init(|| mesh).as_ref())
    }

    /// Writes the mesh, if there is one, to the file with an ending, and notes it in the record under a key.
    fn write_mesh(
        &self,
        record: &mut Record,
        key: &'static str,
        ending: &str,
        write: impl Fn(&Mesh, PathBuf) -> Result<()>,
    ) -> Result<bool> {
        let Some(mesh) = self.mesh()? else { return Ok(false) };
        write(mesh, self.path(ending))?;
        record.add_mesh(mesh, self.options.texture, key, self.file(ending));
        Ok(true)
    }
}

impl Reconstruction {
    /// Writes the files of the chosen formats into `folder`, which is made if it is not there, under names that begin
    /// with `stem` (relative to the folder, with `/`); `name` is what the record calls the image. Where there is the
    /// record of an earlier call under that stem, files of its that are not written anew are removed: they would pass
    /// for this call's. A mesh is left out where the depth makes no surface. Gives the file to open.
    ///
    /// # Errors
    /// If a file cannot be written; others may be there then.
    pub fn write(
        &self,
        folder: &Path,
        stem: &str,
        name: &str,
        options: &OutputOptions,
    ) -> Result<Option<PathBuf>> {
        self.write_with(folder, stem, name, options, None)
    }

    /// The same, with what several photographs say of it and the names of those.
    pub(crate) fn write_with(
        &self,
        folder: &Path,
        stem: &str,
        name: &str,
        options: &OutputOptions,
        together: Option<(&Together, &[String])>,
    ) -> Result<Option<PathBuf>> {
        let OutputOptions { formats, mesh: options, relief } = options;
        let (options, relief, mesh) = (*options, *relief, OnceCell::new());
        let photographs = together.map(|(together, _)| together);
        let result = Written { face: self, together: photographs, folder, stem, name, options, relief, mesh };
        let mut record = Record::new(self, name);
        if let Some((together, names)) = together {
            record.add_photographs(&together.photographs, names);
        }
        let is_earlier_there = is_record(&result.path("json"));
        let mut written = Vec::new();
        for format in OutputFormat::ALL.iter().filter(|format| formats.contains(format)) {
            if format.write(&result, &mut record)? {
                written.push(*format);
            }
        }
        if is_earlier_there {
            let stale = OutputFormat::ALL.iter().filter(|format| !written.contains(format));
            remove_files(folder, stem, stale.copied());
        }
        Ok(written.first().map(|format| result.path(format.endings()[0])))
    }
}

/// Removes what an earlier call wrote under a stem, if its record is there: other files of such names are not ours.
pub(crate) fn remove_results(folder: &Path, stem: &str) -> bool {
    let is_ours = is_record(&folder.join(format!("{stem}.json")));
    if is_ours {
        remove_files(folder, stem, OutputFormat::ALL.iter().copied());
    }
    is_ours
}

/// Removes the files of some formats, as far as they are there.
fn remove_files(folder: &Path, stem: &str, formats: impl Iterator<Item = OutputFormat>) {
    for ending in formats.flat_map(OutputFormat::endings) {
        let _ = fs::remove_file(folder.join(format!("{stem}.{ending}")));
    }
}

/// Whether a file is the record of a reconstruction.
fn is_record(path: &Path) -> bool {
    let text = fs::read(path).unwrap_or_default();
    let record: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let has = |record: &serde_json::Value, key: &str| record.get(key).is_some();
    // Version 0.1 did not mark its records at first.
    record.is_some_and(|record| {
        has(&record, JSON_KEY) || has(&record, "field-of-view-degrees") && has(&record, "view")
    })
}
