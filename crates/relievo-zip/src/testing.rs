//! A writer of zip archives for tests: independent of the reader, and able to write what other programs rarely do.

use std::io::Write;

/// A member of an archive: name, content, whether it is deflated, whether its numbers stand in the wide field.
pub type Member<'a> = (&'a str, &'a [u8], bool, bool);

/// An archive with these members, whose flags (1: encrypted) are `flags`, and with a comment behind it.
///
/// # Panics
/// If it would have 4 GiB or more.
pub fn archive(members: &[Member<'_>], flags: u16) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for &(name, content, deflated, wide) in members {
        let mut packed = content.to_vec();
        if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            packed = encoder.finish().unwrap();
        }
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let begin = bytes.len() as u32;
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(flags.to_le_bytes());
        common.extend((if deflated { 8_u16 } else { 0 }).to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        let sizes = if wide { [u32::MAX; 2] } else { [packed.len() as u32, content.len() as u32] };
        common.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        // An extra field of another length than in the list.
        bytes.extend(5_u16.to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend([9, 9, 1, 0, 7]);
        bytes.extend(&packed);
        let mut extra = Vec::new();
        if wide {
            extra.extend([1, 0, 24, 0]);
            extra.extend(
                [content.len() as u64, packed.len() as u64, u64::from(begin)]
                    .iter()
                    .flat_map(|n| n.to_le_bytes()),
            );
        }
        list.extend(b"PK\x01\x02\x14\0");
        list.extend(&common);
        list.extend((extra.len() as u16).to_le_bytes());
        list.extend([0; 10]);
        list.extend((if wide { u32::MAX } else { begin }).to_le_bytes());
        list.extend(name.as_bytes());
        list.extend(&extra);
    }
    let (begin, length) = (bytes.len() as u32, list.len() as u32);
    bytes.extend(&list);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((members.len() as u16).to_le_bytes().repeat(2));
    bytes.extend(length.to_le_bytes());
    bytes.extend(begin.to_le_bytes());
    bytes.extend([3, 0]);
    bytes.extend(b"hi!");
    bytes
}
