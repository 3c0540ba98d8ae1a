//! Files of calibrated cameras.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::CalibratedCamera;

/// A file of cameras that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read cameras from {}: {reason}", path.display())]
pub struct CameraFileError {
    /// The file.
    pub path: PathBuf,
    /// Why, and what to do.
    pub reason: String,
}

impl CalibratedCamera {
    /// The cameras of a JSON file: a list, an object with a list `cameras`, or one camera. A camera is
    ///
    /// ```json
    /// { "width": 640, "height": 480, "K": [[800, 0, 319.5], [0, 800, 239.5], [0, 0, 1]],
    ///   "R": [[1, 0, 0], [0, -1, 0], [0, 0, -1]], "t": [0, 0, 5], "distortion": [0, 0, 0, 0, 0] }
    /// ```
    ///
    /// with K, R, t and the distortion (k1, k2, p1, p2, k3; it may be left out) as OpenCV has them. Other keys are left
    /// alone.
    ///
    /// # Errors
    /// Says what is missing, and of which camera.
    pub fn open(path: impl AsRef<Path>) -> Result<Vec<Self>, CameraFileError> {
        let path = path.as_ref();
        let failed = |reason: String| CameraFileError { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        let list = match (&value, value.get("cameras")) {
            (Value::Array(list), _) | (_, Some(Value::Array(list))) => list.as_slice(),
            (Value::Object(_), None) => std::slice::from_ref(&value),
            _ => return Err(failed("it is neither a camera nor a list of cameras".into())),
        };
        if list.is_empty() {
            return Err(failed("the list of cameras is empty".into()));
        }
        let of_entry = |(number, entry): (usize, &Value)| {
            Self::from_json(entry)
                .map_err(|reason| failed(format!("camera {number}, counted from 0: {reason}")))
        };
        list.iter().enumerate().map(of_entry).collect()
    }

    fn from_json(entry: &Value) -> Result<Self, String> {
        let vector = |key: &str, count: usize| {
            let numbers = entry.get(key).and_then(Value::as_array).map(|list| {
                list.iter()
                    .map(|value| value.as_f64().or_else(|| value.get(0)?.as_f64()))
                    .collect::<Option<Vec<f64>>>()
            });
            match numbers.flatten() {
                Some(numbers) if numbers.len() == count => Ok(numbers),
                _ => Err(format!("{key} must be a list of {count} numbers")),
            }
        };
        let matrix = |key: &str| {
            let row = |row: &Value| {
                let row: Vec<f64> = row.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
                <[f64; 3]>::try_from(row).ok()
            };
            let rows = entry.get(key).and_then(Value::as_array);
            let rows = rows.and_then(|rows| rows.iter().map(row).collect::<Option<Vec<[f64; 3]>>>());
            rows.and_then(|rows| <[[f64; 3]; 3]>::try_from(rows).ok())
                .ok_or_else(|| format!("{key} must be three rows of three numbers"))
        };
        let side = |key: &str| {
            let side = entry.get(key).and_then(Value::as_u64).filter(|side| (1..=1 << 20).contains(side));
            side.map(|side| side as usize)
                .ok_or_else(|| format!("{key} must be the number of pixels that K is for"))
        };
        let distortion =
            if entry.get("distortion").is_some() { vector("distortion", 5)? } else { vec![0.0; 5] };
        Ok(Self {
            matrix: matrix("K")?,
            rotation: matrix("R")?,
            translation: vector("t", 3)?.try_into().unwrap_or_default(),
            distortion: distortion.try_into().unwrap_or_default(),
            size: [side("width")?, side("height")?],
        })
    }

    /// The camera as [`CalibratedCamera::open`] reads it.
    pub fn to_json(&self) -> Value {
        let Self { matrix, rotation, translation, distortion, size: [width, height] } = self;
        let camera =
            json!({ "width": width, "height": height, "K": matrix, "R": rotation, "t": translation });
        let Value::Object(mut camera) = camera else { return camera };
        if distortion.iter().any(|value| *value != 0.0) {
            camera.insert("distortion".into(), json!(distortion));
        }
        Value::Object(camera)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_come_back_and_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cameras.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            CalibratedCamera::open(&path)
        };
        let camera = CalibratedCamera {
            matrix: [[800.0, 0.0, 319.5], [0.0, 801.0, 239.5], [0.0, 0.0, 1.0]],
            rotation: [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]],
            translation: [0.1, 0.2, 5.0],
            distortion: [0.1, 0.0, 0.0, 0.0, 0.0],
            size: [640, 480],
        };
        let one = camera.to_json();
        for text in [one.to_string(), json!([one]).to_string(), json!({ "cameras": [one] }).to_string()] {
            assert_eq!(read(&text).unwrap(), std::slice::from_ref(&camera));
        }
        let column = one.to_string().replace("[0.1,0.2,5.0]", "[[0.1],[0.2],[5.0]]");
        assert_eq!(read(&column).unwrap()[0].translation, camera.translation);
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("[]").contains("list of cameras is empty"));
        assert!(message("7").contains("neither a camera"));
        assert!(message("[{}]").contains("camera 0, counted from 0: K must be three rows"));
        assert!(message(&one.to_string().replace("640", "0")).contains("width must be"));
        assert!(message("{").contains("cannot read cameras from"));
    }
}
