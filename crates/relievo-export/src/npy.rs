//! Arrays for NumPy.

use std::path::Path;

use relievo_files::{WriteError, write_atomic};

/// Writes numbers as a `.npy` file of the given shape: f32, little-endian, row-major. Source: NumPy, *NEP 1, A simple file
/// format for NumPy arrays*, version 1.0.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the shape has another number of elements.
pub fn write_npy(path: impl AsRef<Path>, values: &[f32], shape: &[usize]) -> Result<(), WriteError> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{} numbers of shape {shape:?}", values.len());
    // A tuple of one element ends in a comma.
    let shape: String = shape.iter().map(|extent| format!("{extent},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version and length take 10 bytes; the numbers begin at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    write_atomic(path, |file| file.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_an_aligned_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("depth.npy");
        write_npy(&path, &[1.0, f32::NAN, -2.5, 0.0, 0.5, 7.0], &[2, 3]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
        assert_eq!((10 + header) % 64, 0);
        assert!(bytes[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }"));
        assert_eq!(bytes.len(), 10 + header + 24);
        assert_eq!(bytes[10 + header + 8..][..4], (-2.5f32).to_le_bytes());
    }
}
