//! The mark on what relievo writes. A folder of results lies beside photographs or among them; without a mark, the next
//! command that reads that folder would take maps and panels for photographs.
//!
//! Three kinds of mark: a hidden file in a folder that holds nothing but results ([`mark_folder`]), a text chunk in
//! PNG images ([`PNG_KEY`]), a key in JSON records ([`JSON_KEY`]). Crops and synthetic images are for learning, so
//! they carry none.

use std::fs;
use std::path::Path;

use crate::{WriteError, write_atomic};

/// The hidden file that marks a folder of results.
pub const FOLDER_FILE: &str = ".relievo-results";

/// The keyword of the text chunk (`tEXt`) in a PNG image that relievo made of another image. Its text says what the
/// image shows.
pub const PNG_KEY: &str = "relievo:result";

/// The key of a JSON record that relievo wrote. Its value is the version that wrote it.
pub const JSON_KEY: &str = "relievo";

/// How many bytes of a PNG file [`is_result_png`] looks at: the signature, the header, and the text chunk behind it.
pub const PNG_HEAD: usize = 64;

/// Marks a folder as one that holds nothing but results.
///
/// # Errors
/// As [`write_atomic`].
pub fn mark_folder(folder: &Path) -> Result<(), WriteError> {
    write_atomic(folder.join(FOLDER_FILE), |file| {
        writeln!(
            file,
            "The images in this folder were made by relievo, which does not read them as photographs."
        )
    })
}

/// Whether a folder is marked.
pub fn is_marked(folder: &Path) -> bool {
    fs::metadata(folder.join(FOLDER_FILE)).is_ok_and(|file| file.is_file())
}

/// A PNG file with the mark behind its header.
///
/// # Panics
/// If `png` is not a PNG file.
pub fn mark_png(png: &[u8]) -> Vec<u8> {
    /// The signature, and the header with its length, type and checksum.
    const HEADER_END: usize = 8 + 25;
    let mut chunk = b"tEXt".to_vec();
    chunk.extend(PNG_KEY.bytes().chain([0]).chain("made by relievo from another image".bytes()));
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    let checksum = crc32fast::hash(&chunk).to_be_bytes();
    let (header, rest) = png.split_at(HEADER_END);
    [header, &length, &chunk, &checksum, rest].concat()
}

/// Whether a file with these first bytes ([`PNG_HEAD`], or all if it is shorter) is a PNG image that relievo made.
pub fn is_result_png(head: &[u8]) -> bool {
    // Signature and header take 33 bytes; the chunk begins with its length (4) and its type (4).
    const KEY_AT: usize = 41;
    head.starts_with(b"\x89PNG\r\n\x1a\n")
        && head.get(KEY_AT - 4..KEY_AT) == Some(b"tEXt")
        && head.get(KEY_AT..).is_some_and(|text| text.starts_with(PNG_KEY.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_folder_is_known() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_marked(root.path()));
        mark_folder(root.path()).unwrap();
        assert!(is_marked(root.path()));
        crate::ensure_empty(root.path()).expect("the mark is hidden");
    }

    #[test]
    fn only_the_chunk_behind_the_header_counts() {
        let head = |key: &str| {
            [b"\x89PNG\r\n\x1a\n", &[0; 25][..], &[0, 0, 0, 20], b"tEXt", key.as_bytes(), b"\0"].concat()
        };
        assert!(is_result_png(&head(PNG_KEY)));
        assert!(!is_result_png(&head("Software")));
        assert!(!is_result_png(&head(PNG_KEY)[..45]));
        assert!(!is_result_png(b""));
        assert!(head(PNG_KEY).len() <= PNG_HEAD);
    }
}
