//! Reads JSON Lines: one token a line,
//! `{"sequence": 0, "position": 0, "token_id": 17, "experts": [[k ids] per layer]}`.

use std::fs::File;
use std::io::{BufRead, Read};

use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::ndjson_line::Line;
use crate::formats::trace::ndjson_sort::{Record, Sorter};
use crate::formats::trace::routes::{RoutePosition, RouteRecorder, check_shape};
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{Declared, shorten};
use crate::trace::MAX_EXPERTS;

/// Longest line: 1,024 layers of 64 ids of five digits fit.
const MAX_LINE: u64 = 1 << 20;

/// Converts lines to a stored trace written to `to`.
pub fn convert(
    from: impl BufRead,
    to: File,
    scratch: Scratch<'_>,
    declared: Declared,
    digest: [u8; 32],
) -> Result<File, TraceError> {
    let mut reader = Reader {
        flaws: Flaws::default(),
        declared,
        shape: None,
        max_id: 0,
        tokens: 0,
        with_id: 0,
        record: Record::default(),
    };
    let sorter = reader.read_all(from, scratch)?;
    let Reader { mut flaws, shape, max_id, tokens, with_id, .. } = reader;
    let (Some((n_layers, top_k)), Some(sorter)) = (shape, sorter) else {
        flaws.into_result()?;
        return Err(Flaws::default().fail("empty", "", "the trace holds no tokens"));
    };
    let id_bound = (u32::from(max_id) + 1).min(MAX_EXPERTS);
    let mut recorder = RouteRecorder::new(to, scratch, (n_layers, top_k), declared, id_bound)?;
    std::mem::swap(&mut recorder.flaws, &mut flaws);
    let all_ids = with_id == tokens;
    if with_id > 0 && !all_ids {
        recorder.note(format!(
            "token ids are given for {with_id} of {tokens} tokens only and were left out"
        ));
    }
    let mut last: Option<(u64, u32, u64)> = None;
    sorter.drain(|record| {
        match last {
            Some((sequence, position, line))
                if (sequence, position) == (record.sequence, record.position) =>
            {
                recorder.flaws.note("duplicate", || {
                    let detail = format!(
                        "sequence {sequence}, position {position} is already on line {line}"
                    );
                    (format!("/lines/{}", record.line), detail)
                });
            }
            Some((sequence, ..)) if sequence != record.sequence => recorder.end_sequence()?,
            _ => {}
        }
        last = Some((record.sequence, record.position, record.line));
        let place = RoutePosition::Line(record.line);
        recorder.push(place, record.position, &record.ids, |n| record.ids[n].to_string())?;
        if all_ids { recorder.push_token_id(record.token_id) } else { Ok(()) }
    })?;
    recorder.finish(digest)
}

struct Reader {
    flaws: Flaws,
    declared: Declared,
    /// Layers and experts per token, from the first line.
    shape: Option<(usize, usize)>,
    max_id: u16,
    tokens: u64,
    with_id: u64,
    record: Record,
}

impl Reader {
    fn read_all<'a>(
        &mut self,
        mut from: impl BufRead,
        scratch: Scratch<'a>,
    ) -> Result<Option<Sorter<'a>>, TraceError> {
        let (mut text, mut line, mut number) = (Vec::new(), Line::default(), 0_u64);
        let mut sorter = None;
        loop {
            text.clear();
            (&mut from).take(MAX_LINE + 1).read_until(b'\n', &mut text)?;
            if text.is_empty() {
                return Ok(sorter);
            }
            number += 1;
            if text.len() as u64 > MAX_LINE {
                return Err(TraceError::unreadable(format_args!(
                    "line {number} is longer than {MAX_LINE} bytes"
                )));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            match line.read(&text) {
                Ok(()) => self.take(&mut line, number, scratch, &mut sorter)?,
                Err(error) => {
                    // A wrong type may stand before text that is no JSON at all.
                    let broken = serde_json::from_slice::<serde::de::IgnoredAny>(&text).err();
                    self.bad_line(number, &broken.unwrap_or(error))?;
                }
            }
        }
    }

    /// JSON that is no token is a flaw; text that is no JSON ends the reading.
    fn bad_line(&mut self, number: u64, error: &serde_json::Error) -> Result<(), TraceError> {
        let text = error.to_string();
        if error.is_data() || text.starts_with("number out of range") {
            self.flaws.note("type", || {
                let text = text.replace(&format!(" at line 1 column {}", error.column()), "");
                (format!("/lines/{number}"), format!("line {number}: {text}"))
            });
            return Ok(());
        }
        let text = shorten(&text.replace("line 1", &format!("line {number}")));
        Err(TraceError::Unreadable(text))
    }

    fn take<'a>(
        &mut self,
        line: &mut Line,
        number: u64,
        scratch: Scratch<'a>,
        sorter: &mut Option<Sorter<'a>>,
    ) -> Result<(), TraceError> {
        let found = (line.widths.len(), line.widths.first().copied().unwrap_or(0));
        let shape = *self.shape.get_or_insert(found);
        if self.tokens == 0 && self.flaws.is_empty() {
            let pointer = format!("/lines/{number}/experts");
            check_shape(&mut self.flaws, &pointer, found.0 as u64, found.1 as u64, self.declared);
            std::mem::take(&mut self.flaws).into_result()?;
        }
        self.tokens += 1;
        let ragged = line.widths.iter().position(|width| *width != shape.1);
        if found.0 != shape.0 || ragged.is_some() {
            self.flaws.note("shape", || ragged_flaw(number, line, shape, ragged));
            return Ok(());
        }
        let Ok(position) = u32::try_from(line.position) else {
            self.flaws.note("range", || {
                let detail = format!("position {}; at most {} fits", line.position, u32::MAX);
                (format!("/lines/{number}/position"), detail)
            });
            return Ok(());
        };
        let token_id = match line.token_id.map(u32::try_from) {
            None => 0,
            Some(Ok(id)) => {
                self.with_id += 1;
                id
            }
            Some(Err(_)) => {
                self.flaws.note("range", || {
                    let detail = format!("token ids must be from 0 to {}", u32::MAX);
                    (format!("/lines/{number}/token_id"), detail)
                });
                return Ok(());
            }
        };
        let bound = self.declared.experts.unwrap_or(MAX_EXPERTS);
        let strange = !line.strange.is_empty();
        for (n, text) in line.strange.drain(..) {
            let (layer, slot) = (n / shape.1, n % shape.1);
            self.flaws.note("range", || {
                let detail = format!(
                    "expert id {text} at line {number}, layer {layer}; ids must be from 0 to {}",
                    bound.saturating_sub(1)
                );
                (RoutePosition::Line(number).pointer(layer, Some(slot)), detail)
            });
        }
        self.max_id = self.max_id.max(line.ids.iter().copied().max().unwrap_or(0));
        // Once something is wrong, the rest is only looked through for further flaws.
        if strange || self.flaws.is_full() {
            return Ok(());
        }
        self.record.sequence = line.sequence;
        self.record.position = position;
        self.record.line = number;
        self.record.token_id = token_id;
        std::mem::swap(&mut self.record.ids, &mut line.ids);
        let sorter = match sorter {
            Some(sorter) => sorter,
            None => sorter.insert(Sorter::new(scratch, shape.0 * shape.1)?),
        };
        Ok(sorter.push(&self.record)?)
    }
}

fn ragged_flaw(
    number: u64,
    line: &Line,
    (n_layers, top_k): (usize, usize),
    ragged: Option<usize>,
) -> (String, String) {
    match ragged {
        Some(layer) if line.widths.len() == n_layers => (
            RoutePosition::Line(number).pointer(layer, None),
            format!(
                "line {number}, layer {layer} has {} experts; the first layer of the first token has {top_k}",
                line.widths[layer]
            ),
        ),
        _ => (
            format!("/lines/{number}/experts"),
            format!(
                "line {number} has {} layers; the first token has {n_layers}",
                line.widths.len()
            ),
        ),
    }
}
