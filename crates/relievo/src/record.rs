//! What stands beside the images as JSON: light, viewpoint, and how to read a 16-bit depth image.
//!
//! Camera frame: x right, y down, z away from the camera; the unit is the distance from the camera to the object.

use relievo_detect::FaceLocation;
use relievo_export::DepthScale;
use serde::{Serialize, Serializer};

use crate::mesh::{Mesh, Texture};
use crate::quality::Quality;
use crate::routing::Route;
use crate::{Photograph, Reconstruction, Relief, Viewpoint};

/// Shading = ambient + diffuse * max(0, normal . direction), seen from the front: the light turns with the object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LightRecord {
    ambient: f32,
    diffuse: f32,
    /// Of length one, in the sign of the normals: (0, 0, 1) lights a plane that faces the camera in full.
    direction: [f32; 3],
}

impl From<relievo_data::Light> for LightRecord {
    fn from(light: relievo_data::Light) -> Self {
        let relievo_data::Light { ambient, diffuse, direction } = light;
        Self { ambient, diffuse, direction }
    }
}

/// How the object is turned and moved from the canonical view: see [`Viewpoint`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ViewRecord {
    /// About x, y, z.
    rotation_radians: [f32; 3],
    translation: [f32; 3],
}

impl From<[f32; 6]> for ViewRecord {
    fn from([a, b, c, x, y, z]: [f32; 6]) -> Self {
        Self { rotation_radians: [a, b, c], translation: [x, y, z] }
    }
}

impl From<Viewpoint> for ViewRecord {
    fn from(Viewpoint { rotation, translation }: Viewpoint) -> Self {
        Self { rotation_radians: rotation, translation }
    }
}

/// A 16-bit depth image: 0 is no surface, v from 1 to 65535 is the depth `min + (v - 1) / 65534 * (max - min)`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Depth {
    /// The image, relative to the file this stands in.
    file: String,
    min: f32,
    max: f32,
}

impl Depth {
    /// An image `file` whose numbers are to be read so.
    pub fn new(file: String, DepthScale { min, max }: DepthScale) -> Self {
        Self { file, min, max }
    }
}

/// What stands beside the images of one reconstruction.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    /// The version that wrote it; the key is the mark of a record ([`relievo_files::mark::JSON_KEY`]).
    relievo: &'static str,
    image: String,
    /// Where in it the face is that all maps show; none if it was taken as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<FaceLocation>,
    /// What it shows and where, if that was found and it is no human face.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Route>,
    quality: Quality,
    /// Rows and columns of all maps.
    size: usize,
    field_of_view_degrees: f32,
    light: LightRecord,
    view: ViewRecord,
    /// Steps in which they were fitted to the image; none if they are what the networks say.
    #[serde(skip_serializing_if = "Option::is_none")]
    refined: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<Depth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_depth: Option<Depth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normals: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub albedo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<MeshRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relief: Option<ReliefRecord>,
    /// All photographs, if several were explained together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    together: Vec<PhotographRecord>,
}

/// One of several photographs of an object.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PhotographRecord {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<FaceLocation>,
    quality: Quality,
    light: LightRecord,
    view: ViewRecord,
    /// Mean absolute difference to the reconstruction, of colours in \[-1,1\].
    error: f32,
    /// The same if it is reconstructed alone.
    single_error: f32,
}

/// The files of a relief; heights of the height map are millimetres above the underside of the plate.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReliefRecord {
    stl: String,
    height_map: Depth,
    /// Of the plate.
    width_millimetres: f32,
    height_millimetres: f32,
}

/// The files of a mesh by format, relative to the file this stands in, and what is in them.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MeshRecord {
    #[serde(flatten, serialize_with = "by_format")]
    files: Vec<(&'static str, String)>,
    texture: Texture,
    vertices: usize,
    triangles: usize,
}

fn by_format<S: Serializer>(files: &[(&str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|(format, file)| (format, file)))
}

impl Record {
    /// Of a reconstruction of which no file is written yet.
    pub fn new(face: &Reconstruction, image: &str) -> Self {
        Self {
            relievo: env!("CARGO_PKG_VERSION"),
            image: image.to_owned(),
            place: face.location().copied(),
            route: face.route().cloned(),
            quality: face.quality().clone(),
            size: face.size(),
            field_of_view_degrees: face.field_of_view(),
            light: face.light().into(),
            view: face.viewpoint().into(),
            refined: Some(face.refined()).filter(|steps| *steps > 0),
            depth: None,
            canonical_depth: None,
            normals: None,
            albedo: None,
            panel: None,
            page: None,
            mesh: None,
            relief: None,
            together: Vec::new(),
        }
    }

    /// Notes the photographs of one object; `names` are those of all images that were given.
    pub fn add_photographs(&mut self, photographs: &[Photograph], names: &[String]) {
        let record = |photograph: &Photograph| {
            let face = &photograph.reconstruction;
            PhotographRecord {
                image: names[photograph.number].clone(),
                place: face.location().copied(),
                quality: face.quality().clone(),
                light: face.light().into(),
                view: face.viewpoint().into(),
                error: photograph.error,
                single_error: photograph.single_error,
            }
        };
        self.together = photographs.iter().map(record).collect();
    }

    /// Notes the files of the relief.
    pub fn add_relief(&mut self, relief: &Relief, stl: String, height_map: Depth) {
        let [width, height] =
            [relief.columns(), relief.rows()].map(|count| (count - 1) as f32 * relief.pitch());
        self.relief =
            Some(ReliefRecord { stl, height_map, width_millimetres: width, height_millimetres: height });
    }

    /// Notes a file of the mesh.
    pub fn add_mesh(&mut self, mesh: &Mesh, texture: Texture, format: &'static str, file: String) {
        let (vertices, triangles) = (mesh.positions().len(), mesh.triangles().len());
        let record =
            self.mesh.get_or_insert_with(|| MeshRecord { files: Vec::new(), texture, vertices, triangles });
        record.files.push((format, file));
    }
}
