//! Real photographs, if RELIEVO_DATA names a folder that has them: what is found against detections.csv.

use std::path::Path;

use relievo_data::{Images, Source};
use relievo_detect::{Area, Detector};
use relievo_require::{Requirement, skip};

/// A row of detections.csv.
struct Row {
    file: String,
    area: Area,
    points: Vec<[f32; 2]>,
    crop: [f32; 3],
    outside: f32,
}

fn rows(text: &str) -> Vec<Row> {
    let parse = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| cells[at].parse::<f32>().expect("a number");
        Row {
            file: cells[0].to_owned(),
            area: Area { left: number(3), top: number(4), right: number(5), bottom: number(6) },
            points: (0..5).map(|point| [number(8 + 2 * point), number(9 + 2 * point)]).collect(),
            crop: [number(18), number(19), number(20)],
            outside: number(21),
        }
    };
    text.lines().skip(1).filter(|line| !line.is_empty()).map(parse).collect()
}

/// A file of a tar archive: 512 bytes of header (name, size in octal), then the content, padded to 512.
fn member(archive: &[u8], ending: &str) -> Option<String> {
    let mut at = 0;
    while let Some(header) = archive.get(at..at + 512) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim_end_matches(['\0', ' ']).to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap_or(0);
        if text(0..100).ends_with(ending) {
            return Some(String::from_utf8_lossy(&archive[at + 512..at + 512 + size]).into_owned());
        }
        at += 512 + size.next_multiple_of(512);
    }
    None
}

#[test]
fn boxes_agree_with_the_list() {
    let archive = std::env::var("RELIEVO_DATA").map(|folder| Path::new(&folder).join("raw-photos.tar"));
    let Some(archive) = archive.ok().filter(|path| path.exists()) else {
        return skip(Requirement::Data, "RELIEVO_DATA names no folder with raw-photos.tar");
    };
    let list = member(&std::fs::read(&archive).unwrap(), "detections.csv").expect("detections.csv is there");
    let rows = rows(&list);
    let images = Images::open(&[&archive]).unwrap();
    let detector = Detector::new().unwrap();
    let (mut overlaps, mut missed, mut extra) = (Vec::new(), 0, 0);
    let (mut landmark_errors, mut frame_errors, mut outside_errors) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..images.len() {
        let name = images.name(index);
        let Some(row) = rows.iter().find(|row| name.ends_with(&row.file)) else { continue };
        let image = images.image(index).unwrap();
        let faces = detector.faces(&image).unwrap();
        let best =
            faces.iter().max_by(|a, b| a.area.overlap(&row.area).total_cmp(&b.area.overlap(&row.area)));
        extra += faces.len().saturating_sub(1);
        let Some(face) = best else {
            missed += 1;
            overlaps.push(0.0);
            continue;
        };
        overlaps.push(face.area.overlap(&row.area));
        let off = face
            .landmarks
            .points()
            .into_iter()
            .zip(&row.points)
            .map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
        landmark_errors.push(off.sum::<f32>() / 5.0 / row.area.height());
        let (frame, [x, y, side]) = (face.frame(), row.crop);
        let apart = (frame.centre[0] - x).hypot(frame.centre[1] - y).max((frame.side - side).abs());
        frame_errors.push(apart / side);
        outside_errors.push((frame.outside(image.width, image.height) - row.outside).abs());
    }
    assert_eq!(overlaps.len(), rows.len(), "every photograph of the list is there");
    let at = |values: &mut Vec<f32>, share: f32| {
        values.sort_by(f32::total_cmp);
        values[(share * (values.len() - 1) as f32) as usize]
    };
    let good = overlaps.iter().filter(|overlap| **overlap >= 0.8).count() as f32 / rows.len() as f32;
    println!("{} photographs: {missed} missed, {extra} more faces", rows.len());
    println!("overlap at least 0.8 on {:.1} %", 100.0 * good);
    println!("overlap: least {:.3}, median {:.4}", at(&mut overlaps, 0.0), at(&mut overlaps, 0.5));
    for (what, values) in [
        ("landmarks, of the box's height", &mut landmark_errors),
        ("frame's centre or side, of its side", &mut frame_errors),
        ("share outside", &mut outside_errors),
    ] {
        println!(
            "{what}: median {:.4}, 98 % {:.4}, most {:.4}",
            at(values, 0.5),
            at(values, 0.98),
            at(values, 1.0)
        );
    }
    assert!(good >= 0.98 && missed == 0, "{good} {missed}");
    // The list was made from images stretched a little otherwise.
    assert!(at(&mut landmark_errors, 0.98) < 0.03 && at(&mut frame_errors, 0.5) < 0.01);
}
