//! A page that shows a reconstruction in a browser: one file, which asks the network for nothing.
//!
//! The viewer in `assets/page.html` is our own, for WebGL 2: 41 KB, where three.js with what it needs for the same takes 608
//! KB and model-viewer 1,035 KB, and a page with its model is to stay below 1 MB (docs/performance.md has the start times). The page builds the GLB and STL files that it
//! offers from what it shows, so that nothing is in it twice.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use relievo_export::Canvas;
use relievo_files::write_atomic;
use serde::Serialize;

use crate::mesh::Mesh;
use crate::record::LightRecord;
use crate::{Light, Reconstruction, Result, Viewpoint};

static TEMPLATE: &str = include_str!("../assets/page.html");

/// Where the data and the title go in the template.
const DATA: &str = "__RELIEVO_DATA__";
const TITLE: &str = "__RELIEVO_TITLE__";

/// Quality of the JPEG images: differences to the original are not seen.
const QUALITY: u8 = 92;

/// What the page is given; `assets/page.html` reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    name: &'a str,
    /// How downloads are called, before their endings.
    stem: &'a str,
    /// Frame of glTF, f32, base64.
    positions: String,
    /// The same of places in the texture.
    coordinates: String,
    /// u32.
    indices: String,
    texture: String,
    light: LightRecord,
    viewpoint: Turned,
    /// Degrees.
    field_of_view: f32,
    maps: Vec<Map>,
    /// What they are and how much.
    figures: Vec<[String; 2]>,
}

/// [`Viewpoint`](crate::Viewpoint).
#[derive(Serialize)]
struct Turned {
    rotation: [f32; 3],
    translation: [f32; 3],
}

#[derive(Serialize)]
struct Map {
    label: &'static str,
    file: String,
    source: String,
}

impl Reconstruction {
    /// A page that shows `mesh`, of this reconstruction, in a browser: turned, under other light, flatter or deeper, with all
    /// maps, and with files to download. It is one file, works without a server and loads nothing. `name` is what it calls
    /// the image, `stem` how the names of downloads begin.
    ///
    /// ```no_run
    /// use relievo::{Image, Reconstructor, Texture};
    ///
    /// let reconstructor = Reconstructor::builder().build()?;
    /// let face = &reconstructor.reconstruct(&Image::decode(&std::fs::read("photo.jpg")?)?)?[0];
    /// std::fs::write("photo.html", face.page(&face.mesh(Texture::Photograph)?, "photo.jpg", "photo")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If an image cannot be encoded.
    pub fn page(&self, mesh: &Mesh, name: &str, stem: &str) -> io::Result<String> {
        let crop = Canvas::from_rgb8(&self.crop().pixels, self.crop().width as usize);
        let map = |label, ending: &str, canvas: &Canvas| {
            Ok::<_, io::Error>(Map {
                label,
                file: format!("{stem}.{ending}.png"),
                source: png(&canvas.png()?),
            })
        };
        let maps = vec![
            Map { label: "Photograph", file: format!("{stem}.crop.jpg"), source: jpeg(&crop)? },
            map("Reconstruction", "reconstruction", &self.draw_reconstruction())?,
            map("Depth from the front", "depth", &self.draw_canonical_depth())?,
            map("Normals", "normals", &self.draw_normals())?,
            map("Albedo", "albedo", &self.draw_albedo())?,
            map("Shading", "shading", &self.draw_shading())?,
        ];
        let Viewpoint { rotation, translation } = self.viewpoint();
        let data = Data {
            name,
            stem,
            positions: base64(mesh.positions().as_flattened().iter().flat_map(|x| x.to_le_bytes())),
            coordinates: base64(mesh.texture_coordinates().flatten().flat_map(f32::to_le_bytes)),
            indices: base64(mesh.triangles().as_flattened().iter().flat_map(|x| x.to_le_bytes())),
            texture: jpeg(mesh.texture())?,
            light: light_on(mesh, self.light()).into(),
            viewpoint: Turned { rotation, translation },
            field_of_view: self.field_of_view(),
            maps,
            figures: self.figures(mesh),
        };
        let json = serde_json::to_string(&data).map_err(io::Error::other)?;
        // No name of a file can end the script that the data stand in.
        let json = json.replace('<', "\\u003c");
        let title = name.replace('&', "&amp;").replace('<', "&lt;");
        // The data come last: a name may be one of the words that are replaced.
        let (before, after) = TEMPLATE.split_once(DATA).expect("the template has a place for the data");
        Ok(format!("{}{json}{}", before.replace(TITLE, &title), after.replace(TITLE, &title)))
    }

    /// Writes [`Reconstruction::page`], whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_page(&self, mesh: &Mesh, name: &str, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(write_atomic(path, |file| file.write_all(self.page(mesh, name, &stem)?.as_bytes()))?)
    }

    /// The numbers of the page's table.
    fn figures(&self, mesh: &Mesh) -> Vec<[String; 2]> {
        let (light, view, quality) = (self.light(), self.viewpoint(), self.quality());
        let [x, y, z] = light.direction;
        // As `Light::from_angles` has them.
        let azimuth = (-x).atan2(z).to_degrees();
        let elevation = y.clamp(-1.0, 1.0).asin().to_degrees();
        let side = |angle: f32, positive, negative| {
            format!("{:.0} degrees {}", angle.abs(), if angle < 0.0 { negative } else { positive })
        };
        let [pitch, yaw, roll] = view.rotation.map(f32::to_degrees);
        let mut figures = vec![
            (
                "Light from",
                format!("{}, {}", side(azimuth, "right", "left"), side(elevation, "above", "below")),
            ),
            (
                "Light's strength",
                format!("{:.2} from everywhere, {:.2} from its direction", light.ambient, light.diffuse),
            ),
            ("Viewpoint", format!("pitch {pitch:.1}, yaw {yaw:.1}, roll {roll:.1} degrees")),
            ("Explained", format!("{:.0} % of the face", 100.0 * quality.explained)),
            ("Sharpness", format!("{:.2}", quality.sharpness)),
            ("Brightness", format!("{:.2}", quality.brightness)),
            ("Mesh", format!("{} vertices, {} triangles", mesh.positions().len(), mesh.triangles().len())),
        ];
        figures.extend(quality.doubts.iter().map(|doubt| ("Doubt", doubt.to_string())));
        figures.into_iter().map(|(what, value)| [what.to_owned(), value]).collect()
    }
}

/// The photograph's light as it lies on the mesh's texture.
fn light_on(mesh: &Mesh, light: Light) -> Light {
    match mesh.light() {
        Some(under) => Light { ambient: light.ambient / under, diffuse: light.diffuse / under, ..light },
        None => Light { ambient: 1.0, diffuse: 0.0, ..light },
    }
}

fn base64(bytes: impl Iterator<Item = u8>) -> String {
    BASE64_STANDARD.encode(bytes.collect::<Vec<_>>())
}

fn png(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes))
}

fn jpeg(canvas: &Canvas) -> io::Result<String> {
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(canvas.jpeg(QUALITY)?)))
}
