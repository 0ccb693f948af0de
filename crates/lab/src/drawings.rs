//! Every law over its sizes with the points it was measured at, as pictures.

use std::path::Path;

use crate::validate::report::{ValidateError, shipped_profiles, tables};
use crate::validate::series::{Series, Subject, series};
use moe_gps_core::charts::axis::Axis;
use moe_gps_core::charts::curves::{Curve, body, points, symbol};
use moe_gps_core::charts::figure::{Key, Panel, svg};

/// Series in one panel, each with a colour of its own.
const CLASSES: [&str; 4] = ["l-0", "l-1", "l-2", "l-3"];

/// Panels side by side, and in a picture.
const PANELS: (usize, usize) = (3, 9);

/// A picture of one operator of one piece of software on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// A name for its file.
    pub file: String,
    /// The picture.
    pub svg: String,
    /// The largest share by which one of its laws falls with size.
    pub fall: f64,
}

/// The pictures of every table of a folder, in the order of its names.
pub fn drawings(folder: &Path) -> Result<Vec<Drawing>, ValidateError> {
    let profiles = shipped_profiles()?;
    let mut drawn = Vec::new();
    for (table, content) in tables(folder)? {
        for (subject, found) in series(&content.rows, &profiles) {
            let mut drawing = drawing(&table, &subject, &found);
            // One software of one device may stand in several tables.
            if drawn.iter().any(|other: &Drawing| other.file == drawing.file) {
                let stem = table.split('.').next().unwrap_or_default();
                drawing.file =
                    file_name(&format!("{} {stem}", drawing.file.trim_end_matches(".svg")));
            }
            drawn.push(drawing);
        }
    }
    Ok(drawn)
}

fn drawing(table: &str, subject: &Subject, all: &[Series]) -> Drawing {
    let shown = &all[..all.len().min(CLASSES.len() * PANELS.1)];
    let panels: Vec<Panel> =
        shown.chunks(CLASSES.len()).enumerate().map(|(at, series)| panel(at + 1, series)).collect();
    let rows: Vec<Vec<Panel>> = panels.chunks(PANELS.0).map(<[Panel]>::to_vec).collect();
    let key: Vec<Key> = shown
        .iter()
        .zip(CLASSES.iter().cycle())
        .enumerate()
        .map(|(i, (series, class))| Key {
            symbol: symbol(class),
            text: format!("{}: {}", i / CLASSES.len() + 1, series.label),
        })
        .collect();
    let fall = all.iter().map(Series::fall).fold(0.0, f64::max);
    let mut notes = vec![
        format!("lines: priced; circles: measured ({table})"),
        format!("the law falls with size by at most {:.1} %", fall * 100.0),
    ];
    if shown.len() < all.len() {
        notes.push(format!("{} of {} series, those with the most sizes", shown.len(), all.len()));
    }
    let name = format!("{} {} {}", subject.op.name(), subject.device, subject.software.label());
    Drawing { file: file_name(&name), svg: svg(&name, &rows, &key, &notes), fall }
}

fn panel(number: usize, series: &[Series]) -> Panel {
    let sizes = series.iter().flat_map(|series| series.priced.iter().map(|(size, _)| *size));
    let times = series.iter().flat_map(|series| series.priced.iter().chain(&series.measured));
    let (name, unit) = series.first().map_or(("", 1.0), |first| (first.size.name, first.size.unit));
    let x = Axis::ratios(name, unit, &sizes.collect::<Vec<_>>());
    let y = Axis::ratios("µs", 1e-6, &times.map(|(_, time)| time.get()).collect::<Vec<_>>());
    let curves: Vec<Curve<'_>> = series
        .iter()
        .zip(CLASSES)
        .map(|(series, class)| Curve {
            class,
            points: series.priced.iter().map(|(size, time)| (*size, Some(time.get()))).collect(),
            dot: None,
        })
        .collect();
    let mut drawn = body(&x, &y, &curves);
    for (series, class) in series.iter().zip(CLASSES) {
        let measured: Vec<(f64, f64)> =
            series.measured.iter().map(|(size, time)| (*size, time.get())).collect();
        drawn.push_str(&points(&x, &y, class, &measured));
    }
    Panel { title: number.to_string(), x, y, body: drawn }
}

/// Small letters, digits and hyphens, `.svg` behind.
fn file_name(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect::<Vec<_>>().join("-") + ".svg"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_laws_fall_nowhere_between_their_points() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../measurements");
        let drawn = drawings(&folder).unwrap();
        assert!(drawn.len() > 40, "{}", drawn.len());
        for drawing in &drawn {
            assert!(drawing.svg.contains("<circle") && drawing.svg.ends_with("</svg>\n"));
            // A library's kernel for few rows may take longer than the one for more: measured.
            let of_products = drawing.file.starts_with("gemm-");
            assert!(drawing.fall < 1e-9 || of_products, "{}: {}", drawing.file, drawing.fall);
        }
        let mut files: Vec<&str> = drawn.iter().map(|drawing| drawing.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), drawn.len());
    }
}
