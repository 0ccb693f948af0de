//! Checks counts as they are read, and stores them row by row.

use std::collections::BTreeSet;
use std::fs::File;

use sha2::{Digest, Sha256};

use crate::formats::trace::counts::{Counted, CutSteps};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::stored::{CountsWriter, Scratch};
use crate::formats::trace::{COUNTS_NAMES, Declared, shorten};
use crate::trace::{MAX_CELLS, MAX_COUNT, MAX_EXPERTS, MAX_LAYERS};

/// Most named steps; their names are remembered to tell doubles.
const MAX_NAMES: usize = 1_000_000;

/// The reading was stopped; why is in [`Sink::stopped`].
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub(super) struct Stopped;

/// Where counts go.
pub(super) struct Sink {
    pub(super) flaws: Flaws,
    /// Why the reading was stopped before the end of the document.
    pub(super) stopped: Option<TraceError>,
    declared: Declared,
    cut: CutSteps,
    writer: CountsWriter,
    /// The key the counts stand under, once it has been seen.
    root: Option<String>,
    names: Option<BTreeSet<[u8; 16]>>,
    name: Option<String>,
    /// Indices of the place being read, outermost first.
    path: Vec<u64>,
    /// Arrays around every count: 2 or 3.
    leaf_depth: Option<usize>,
    row: Vec<f64>,
    n_experts: Option<usize>,
    rows: usize,
    n_layers: Option<usize>,
    totals: Vec<f64>,
    steps: u64,
}

impl Sink {
    pub(super) fn new(
        to: File,
        scratch: Scratch<'_>,
        declared: Declared,
    ) -> Result<Self, TraceError> {
        Ok(Self {
            flaws: Flaws::default(),
            stopped: None,
            declared,
            cut: CutSteps::new(declared.cut),
            writer: CountsWriter::new(to, scratch).map_err(TraceError::storage)?,
            root: None,
            names: None,
            name: None,
            path: Vec::new(),
            leaf_depth: None,
            row: Vec::new(),
            n_experts: None,
            rows: 0,
            n_layers: None,
            totals: Vec::new(),
            steps: 0,
        })
    }

    /// Begins the counts under `key`; false if they were read already.
    pub(super) fn begin(&mut self, key: &str) -> bool {
        if let Some(root) = &self.root {
            let detail = format!("`{root}` has been given already; only one can be the trace");
            self.flaws.note("duplicate", || (format!("/{key}"), detail));
            return false;
        }
        self.root = Some(key.to_owned());
        true
    }

    /// Counts come as an object of steps.
    pub(super) fn expect_names(&mut self) {
        self.names = Some(BTreeSet::new());
        self.leaf_depth = Some(3);
    }

    /// The next step has this name.
    pub(super) fn name(&mut self, name: &str) -> Result<(), Stopped> {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(name)[..16]);
        let names = self.names.get_or_insert_default();
        let fresh = names.insert(key);
        if names.len() > MAX_NAMES {
            return Err(self.stop("range", format!("more than {MAX_NAMES} named steps")));
        }
        // `~` and `/` are what JSON pointers escape.
        self.name = Some(shorten(name).replace('~', "~0").replace('/', "~1"));
        if !fresh {
            self.strange("duplicate", "this name occurs more than once");
        }
        Ok(())
    }

    /// The object of steps is over.
    pub(super) fn names_end(&mut self) {
        self.name = None;
    }

    /// JSON pointer to the counts; where they are the whole document it is empty.
    fn root(&self) -> String {
        let root = self.root.as_deref().filter(|root| !root.is_empty());
        root.map_or(String::new(), |root| format!("/{root}"))
    }

    /// JSON pointer to the place being read.
    fn pointer(&self) -> String {
        let mut pointer = self.root();
        if let Some(name) = &self.name {
            pointer = format!("{pointer}/{name}");
        }
        for index in &self.path {
            pointer = format!("{pointer}/{index}");
        }
        pointer
    }

    /// Notes something that cannot stand at this place.
    pub(super) fn strange(&mut self, rule: &'static str, detail: &str) {
        if self.flaws.is_full() {
            self.flaws.note(rule, || (String::new(), String::new()));
        } else {
            let pointer = self.pointer();
            self.flaws.note(rule, || (pointer, detail.to_owned()));
        }
    }

    /// Notes something that ends the reading.
    fn stop(&mut self, rule: &'static str, detail: String) -> Stopped {
        let pointer = self.pointer();
        self.stopped = Some(std::mem::take(&mut self.flaws).fail(rule, pointer, detail));
        Stopped
    }

    /// Something else stands where a count must be.
    pub(super) fn not_a_number(&mut self, what: &str) {
        self.strange("type", &format!("{what} where a count or an array must be"));
        self.row.push(0.0);
    }

    /// An array begins.
    pub(super) fn enter(&mut self) {
        self.path.push(0);
    }

    /// An element of the array is over.
    pub(super) fn step_over(&mut self) {
        if let Some(index) = self.path.last_mut() {
            *index += 1;
        }
    }

    /// A count inside so many arrays.
    pub(super) fn count(&mut self, depth: usize, count: f64) -> Result<(), Stopped> {
        let leaf_depth = *self.leaf_depth.get_or_insert(depth);
        if !(2..=3).contains(&leaf_depth) || depth != leaf_depth {
            let detail = "counts must stand in [layers][experts] or [steps][layers][experts]";
            return Err(self.stop("shape", detail.to_owned()));
        }
        if self.row.len() >= MAX_EXPERTS as usize {
            return Err(self.stop("range", format!("more than {MAX_EXPERTS} experts")));
        }
        if !(0.0..=MAX_COUNT).contains(&count) {
            self.strange("range", &format!("count {count}; counts must be from 0 to 2^53"));
        }
        self.row.push(count);
        Ok(())
    }

    /// The array at `depth` ends.
    pub(super) fn leave(&mut self, depth: usize) -> Result<(), Stopped> {
        let empty = self.path.pop() == Some(0);
        if empty {
            self.strange("empty", "the array is empty");
        }
        match self.leaf_depth {
            Some(leaf) if depth == leaf => self.end_row(),
            Some(leaf) if depth + 1 == leaf => self.end_step(),
            _ => Ok(()),
        }
    }

    fn end_row(&mut self) -> Result<(), Stopped> {
        let width = self.row.len();
        let n_experts = *self.n_experts.get_or_insert(width);
        if let Some(experts) = self.declared.experts
            && self.rows == 0
            && self.steps == 0
            && experts as usize != width
        {
            let detail = format!("rows have {width} counts; there are {experts} experts");
            self.strange("experts", &detail);
        }
        if width != n_experts {
            let detail = format!("the row has {width} counts; the first row has {n_experts}");
            self.strange("shape", &detail);
        }
        self.rows += 1;
        if self.rows > MAX_LAYERS {
            return Err(self.stop("range", format!("more than {MAX_LAYERS} layers")));
        }
        if self.rows * n_experts > MAX_CELLS {
            let detail = format!("more than {MAX_CELLS} counts in a step");
            return Err(self.stop("range", detail));
        }
        if self.flaws.is_empty() {
            // How many layers a step has is known only at its end.
            let rows = self.cut.take(&self.row, n_experts, false);
            store(&mut self.writer, &mut self.totals, (self.rows - 1) * n_experts, rows, n_experts)
                .map_err(|error| self.stop_at(error))?;
        }
        self.row.clear();
        Ok(())
    }

    fn stop_at(&mut self, error: TraceError) -> Stopped {
        self.stopped = Some(error);
        Stopped
    }

    fn end_step(&mut self) -> Result<(), Stopped> {
        let n_layers = *self.n_layers.get_or_insert(self.rows);
        if self.rows != n_layers {
            let detail = format!("the step has {} layers; the first has {n_layers}", self.rows);
            self.strange("shape", &detail);
        }
        self.rows = 0;
        self.steps += 1;
        match self.n_experts {
            Some(n_experts) if self.flaws.is_empty() => {
                let rows = self.cut.end_step(n_experts);
                store(&mut self.writer, &mut self.totals, 0, rows, n_experts)
                    .map_err(|error| self.stop_at(error))
            }
            _ => Ok(()),
        }
    }

    /// Ends the trace.
    pub(super) fn finish(mut self, digest: [u8; 32]) -> Result<File, TraceError> {
        let pointer = self.root();
        if self.root.is_none() {
            let detail =
                format!("none of {} is given, nor counts by layer", COUNTS_NAMES.join(", "));
            return Err(self.flaws.fail("required", "", detail));
        }
        let (Some(n_experts), Some(n_layers)) = (self.n_experts, self.n_layers) else {
            if self.flaws.is_empty() {
                self.flaws.note("empty", || (pointer, "holds no counts".to_owned()));
            }
            self.flaws.into_result()?;
            return Err(TraceError::unreadable("no counts"));
        };
        let (steps, note) = self.cut.end(self.steps, &self.flaws)?;
        let end = Counted {
            declared: self.declared,
            n_experts,
            steps,
            totals: &self.totals,
            notes: note.into_iter().collect(),
        };
        let header = end.header(self.flaws, pointer, digest)?;
        self.writer.finish(header, n_layers).map_err(TraceError::storage)
    }
}

/// Stores rows that stand so far behind the beginning of their step.
fn store(
    writer: &mut CountsWriter,
    totals: &mut Vec<f64>,
    first: usize,
    rows: &[f64],
    n_experts: usize,
) -> Result<(), TraceError> {
    if totals.len() < first + rows.len() {
        totals.resize(first + rows.len(), 0.0);
    }
    for (total, count) in totals[first..].iter_mut().zip(rows) {
        *total += count;
    }
    rows.chunks_exact(n_experts.max(1))
        .try_for_each(|row| writer.push_row(row))
        .map_err(TraceError::storage)
}
