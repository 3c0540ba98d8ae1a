//! `relievo info --filters`: a bank of filters as a picture.

use std::path::Path;

use anyhow::Context as _;
use relievo_export::{Canvas, Sheet};
use relievo_files::write_atomic;
use relievo_model::{filters_from_toml, filters_to_toml, standard_filters};
use relievo_tensor::ops::Filter;

use crate::console::{Console, counted};

/// Pixels of a filter's side on the sheet.
const TILE: usize = 108;

/// Filters in a row.
const COLUMNS: usize = 6;

/// Draws the bank of a file or, without one, the program's, or writes it as TOML if `out` ends so.
pub fn draw(file: Option<&Path>, out: &Path, console: &Console) -> anyhow::Result<()> {
    let (filters, name) = match file {
        Some(path) => {
            let text = relievo_files::read_to_string(path)?;
            let bank = filters_from_toml(&text)
                .with_context(|| format!("cannot use the filters in {}", path.display()))?;
            (bank.filters().to_vec(), path.display().to_string())
        }
        None => (standard_filters(), "the program's filters".into()),
    };
    if out.extension().is_some_and(|ending| ending == "toml") {
        write_atomic(out, |file| file.write_all(filters_to_toml(&filters).as_bytes()))?;
    } else {
        sheet(&filters, &name).write_png(out)?;
    }
    let count = counted(filters.len() as u64, "filter");
    console.result(format_args!("{count} of {name}: {}", out.display()));
    Ok(())
}

/// The filters, row by row, each as large as the largest: grey is 0, white the largest tap of a filter, black minus that.
fn sheet(filters: &[Filter], name: &str) -> Canvas {
    let side = |filter: &Filter| {
        let taps = filter.taps();
        taps.len().max(taps.first().map_or(0, Vec::len))
    };
    let side = filters.iter().map(side).max().unwrap_or(1);
    let mut sheet = Sheet::new(TILE).title(name);
    for row in filters.chunks(COLUMNS) {
        // Two names would be too long for a sheet.
        sheet.row(format!("from {}", row[0].name), row.iter().map(|filter| picture(filter, side)));
    }
    sheet.draw()
}

/// A filter in the middle of a square.
fn picture(filter: &Filter, side: usize) -> Canvas {
    let taps = filter.taps();
    let largest = taps.iter().flatten().fold(f32::MIN_POSITIVE, |most, tap| most.max(tap.abs()));
    let mut grey = vec![0.5; side * side];
    let (above, left) = ((side - taps.len()) / 2, (side - taps.first().map_or(0, Vec::len)) / 2);
    for (row, taps) in taps.iter().enumerate() {
        for (column, tap) in taps.iter().enumerate() {
            grey[(above + row) * side + left + column] = 0.5 + 0.5 * tap / largest;
        }
    }
    // Pixels as squares.
    let scale = TILE.div_ceil(side);
    let width = scale * side;
    let large: Vec<f32> =
        (0..width * width).map(|at| grey[at / width / scale * side + at % width / scale]).collect();
    Canvas::from_grey(&large, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_drawn_in_the_middle_from_black_to_white() {
        let filters = standard_filters();
        let slope = filters.iter().find(|filter| filter.name == "slope 1, 0°").unwrap();
        let canvas = picture(slope, 9);
        let at = |row: usize, column: usize| {
            let scale = canvas.width() / 9;
            canvas.bytes()[3 * ((row * scale + scale / 2) * canvas.width() + column * scale + scale / 2)]
        };
        assert_eq!([at(4, 3), at(4, 4), at(4, 5), at(0, 0)], [0, 128, 255, 128]);
        // Six in a row.
        let [one, two, all] = [6, 12, filters.len()].map(|count| sheet(&filters[..count], "all").height());
        assert_eq!(all - two, (filters.len().div_ceil(6) - 2) * (two - one));
    }
}
