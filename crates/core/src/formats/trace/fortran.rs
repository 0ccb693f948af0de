//! Turns an array whose first index changes fastest into one whose last does, on disk.
//!
//! Works in panels of bounded size: reads stay long because a panel spans many sequences,
//! writes because it spans many positions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a panel.
const PANEL: usize = 32 << 20;
/// Sequences a panel spans at least, so that reads stay long.
const MIN_SEQUENCES: usize = 512;

/// Copies `[sequences, tokens, a, b]` elements of `size` bytes from Fortran to C order.
pub(super) fn transpose(from: &File, to: &File, shape: [usize; 4], size: usize) -> io::Result<()> {
    transpose_in(from, to, shape, size, PANEL)
}

fn transpose_in(
    from: &File,
    to: &File,
    [n_s, n_t, n_a, n_b]: [usize; 4],
    size: usize,
    panel_bytes: usize,
) -> io::Result<()> {
    let row = n_a * n_b * size;
    let step_s = (panel_bytes / (n_t * row).max(1)).max(MIN_SEQUENCES).min(n_s).max(1);
    let step_t = (panel_bytes / (step_s * row).max(1)).clamp(1, n_t.max(1));
    let mut panel = vec![0; step_s * step_t * row];
    let mut plane = vec![0; step_s * step_t * size];
    for s in (0..n_s).step_by(step_s) {
        let in_s = step_s.min(n_s - s);
        for t in (0..n_t).step_by(step_t) {
            let in_t = step_t.min(n_t - t);
            for a in 0..n_a {
                for b in 0..n_b {
                    let base = ((b * n_a + a) * n_t + t) * n_s + s;
                    if in_s == n_s {
                        let n = in_t * n_s * size;
                        from.read_exact_at(&mut plane[..n], (base * size) as u64)?;
                    } else {
                        for (dt, part) in
                            plane[..in_t * in_s * size].chunks_exact_mut(in_s * size).enumerate()
                        {
                            from.read_exact_at(part, ((base + dt * n_s) * size) as u64)?;
                        }
                    }
                    let cell = (a * n_b + b) * size;
                    for dt in 0..in_t {
                        for ds in 0..in_s {
                            let source = &plane[(dt * in_s + ds) * size..][..size];
                            panel[(ds * in_t + dt) * row + cell..][..size].copy_from_slice(source);
                        }
                    }
                }
            }
            if in_t == n_t {
                to.write_all_at(&panel[..in_s * in_t * row], (s * n_t * row) as u64)?;
            } else {
                for (ds, rows) in panel[..in_s * in_t * row].chunks_exact(in_t * row).enumerate() {
                    to.write_all_at(rows, (((s + ds) * n_t + t) * row) as u64)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn panels_of_any_size_give_the_same_array() {
        let (n_s, n_t, n_a, n_b) = (1100, 7, 2, 3);
        let value = |s: usize, t: usize, a: usize, b: usize| {
            u16::try_from((((s * n_t + t) * n_a + a) * n_b + b) % 65_521).unwrap()
        };
        let mut from = tempfile::tempfile().unwrap();
        let mut wanted = Vec::new();
        let mut fortran = Vec::new();
        for b in 0..n_b {
            for a in 0..n_a {
                for t in 0..n_t {
                    for s in 0..n_s {
                        fortran.extend(value(s, t, a, b).to_le_bytes());
                    }
                }
            }
        }
        for s in 0..n_s {
            for t in 0..n_t {
                for a in 0..n_a {
                    for b in 0..n_b {
                        wanted.extend(value(s, t, a, b).to_le_bytes());
                    }
                }
            }
        }
        from.write_all(&fortran).unwrap();
        for panel in [1, 20_000, 100_000, PANEL] {
            let mut to = tempfile::tempfile().unwrap();
            transpose_in(&from, &to, [n_s, n_t, n_a, n_b], 2, panel).unwrap();
            let mut got = Vec::new();
            to.rewind().unwrap();
            to.read_to_end(&mut got).unwrap();
            assert!(got == wanted, "panel of {panel}");
        }
    }
}
