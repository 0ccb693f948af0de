//! The recordings that the study of the paper's advice is made of: which file plans and which scores.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::ingest::{TraceDirectory, Upload};
use crate::app::references::References;
use crate::cli::trace;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::trace::{Declared, Limits};
use moe_gps_core::routing::{distribution_error, normalised};
use moe_gps_lab::beyond::{Recorded, Recordings};
use moe_gps_lab::reproduce::{Counted, counted};

/// Folders of our own small models, with the model of their shape.
const SMALL: [(&str, &str); 3] = [
    ("mixtral_like_e8k2", "mixtral-8x7b"),
    ("switch_like_e16k1", "switch-base-16"),
    ("deepseek_like_e64k6", "deepseek-v2-lite"),
];

/// Files of counts by data set, with their model. One of Qwen3 is left out, whose layers 5 to 46 name
/// eight experts only: a broken recording.
const COUNTS: [(&str, &str); 7] = [
    ("counts_mixtral-8x7b-base_fiddler_mmlu.json", "mixtral-8x7b"),
    ("counts_mixtral-8x7b-instruct_fiddler_mmlu.json", "mixtral-8x7b"),
    ("counts_mixtral-8x7b_vismoe_mmlu_57_subjects.json", "mixtral-8x7b"),
    ("counts_mixtral-8x7b_vismoe_mmlu_college_medicine_per_question.json", "mixtral-8x7b"),
    ("counts_olmoe_moelens_domains.json", "olmoe-1b-7b"),
    ("counts_gpt-oss-20b_fingerprinting_from_routes.json", "gpt-oss-20b"),
    ("counts_qwen3-30b-a3b-base_hebrew-english.json", "qwen3-30b-a3b"),
];

/// Files of routes, whose first half plans, with their model.
const ROUTES: [(&str, &str); 2] = [
    ("routes_deepseek-v2-lite_esft_intent.json", "deepseek-v2-lite"),
    ("routes_qwen1.5-moe-a2.7b.json", "qwen1.5-moe-a2.7b"),
];

/// Files of which the first plans and the second scores, with their model; the last is of the longest
/// prompts.
const PAIRS: [(&str, &str, &str); 2] = [
    (
        "counts_deepseek-v3_sglang_prefill_in1024.json",
        "counts_deepseek-v3_sglang_decode_in1000out1000.json",
        "deepseek-v3",
    ),
    (
        "counts_deepseek-v3_sglang_prefill_in1024.json",
        "counts_deepseek-v3_sglang_prefill_in4096.json",
        "deepseek-v3",
    ),
];

/// Recordings that were taken in, with the questions' ways to them.
pub(super) struct Kept {
    pub(super) references: References,
    pub(super) recordings: Recordings,
    directory: TraceDirectory,
    _scratch: TempDir,
}

impl Kept {
    /// Takes in what comes with the program, and further recordings where they are.
    pub(super) fn new(bundled: &Path, others: Option<&Path>) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let directory = TraceDirectory::open(scratch.path())?;
        let (references, recordings) = (References::default(), Recordings::default());
        let mut kept = Self { references, recordings, directory, _scratch: scratch };
        let small = |part: &str| bundled.join(format!("mixtral_like_e8k2.python.{part}.npz"));
        let mixtral =
            kept.pair("mixtral_like_e8k2, python", SMALL[0].1, [&small("train"), &small("test")])?;
        let statistics = bundled.join("deepseek_v3_like.sglang_stat.pt.gz");
        let id = kept.file(&statistics, "deepseek-v3")?;
        let name = "deepseek_v3_like: first half → second half";
        let deepseek = recorded(name, "deepseek-v3", json!({"trace_id": id}))?;
        kept.recordings.bundled = vec![mixtral, deepseek];
        match others {
            Some(folder) if folder.is_dir() => kept.others(folder)?,
            Some(folder) => {
                let mut error = std::io::stderr();
                writeln!(
                    error,
                    "skipped: the recordings of {}, which is not there",
                    folder.display()
                )?;
            }
            None => {}
        }
        Ok(kept)
    }

    /// Takes in everything that is known of a folder.
    fn others(&mut self, folder: &Path) -> Result<()> {
        let mut found = Vec::new();
        for (shape, model) in SMALL {
            for train in trains(&folder.join("tiny-moe").join(shape))? {
                let name = train.file_name().unwrap_or_default().to_string_lossy();
                let domain = name.trim_end_matches(".train.npz").to_owned();
                // That one comes with the program.
                if (shape, domain.as_str()) == (SMALL[0].0, "python") {
                    continue;
                }
                let test = train.with_file_name(format!("{domain}.test.npz"));
                found.push(self.pair(&format!("{shape}, {domain}"), model, [&train, &test])?);
            }
        }
        let public = folder.join("public");
        for (file, model) in COUNTS {
            found.extend(self.easiest_and_hardest(&public.join(file), model)?);
        }
        for (file, model) in ROUTES {
            let path = public.join(file);
            let halves = halves(&path)?;
            let name = format!("{}: first half → second half", stem(&path));
            found.push(self.counts(&name, model, [&halves[0], &halves[1]])?);
        }
        for (plans, scores, model) in PAIRS {
            let [plans, scores] = [plans, scores].map(|file| public.join(file));
            let name =
                format!("{} → {}", stem(&plans), stem(&scores).trim_start_matches("deepseek-v3_"));
            found.push(self.pair(&name, model, [&plans, &scores])?);
        }
        self.recordings.others = found;
        Ok(())
    }

    /// A file that plans and one that scores.
    fn pair(&mut self, name: &str, model: &str, files: [&Path; 2]) -> Result<Recorded> {
        let name =
            if name.contains('→') { name.to_owned() } else { format!("{name}: train → test") };
        let [plans, scores] = [self.file(files[0], model)?, self.file(files[1], model)?];
        recorded(&name, model, json!({"trace_id": plans, "holdout_trace_id": scores}))
    }

    /// Counts that plan and counts that score.
    fn counts(&mut self, name: &str, model: &str, counts: [&Vec<Vec<f64>>; 2]) -> Result<Recorded> {
        let [plans, scores] =
            [self.taken(name, model, counts[0])?, self.taken(name, model, counts[1])?];
        recorded(name, model, json!({"trace_id": plans, "holdout_trace_id": scores}))
    }

    /// Of a file of data sets the two that all others forecast best and worst.
    fn easiest_and_hardest(&mut self, path: &Path, model: &str) -> Result<Vec<Recorded>> {
        let all = counted("", &text(path)?).with_context(|| path.display().to_string())?;
        let error = |one: &Counted| {
            let layers = one.layers.iter().zip(one.others.iter().flatten());
            let of = |(truth, forecast): (&Vec<f64>, &Vec<f64>)| {
                distribution_error(&normalised(truth), &normalised(forecast))
            };
            layers.map(of).sum::<f64>()
        };
        let by = |a: &&Counted, b: &&Counted| error(a).total_cmp(&error(b));
        let ends = [("best", all.iter().min_by(by)), ("worst", all.iter().max_by(by))];
        let mut found = Vec::new();
        for (how, one) in ends {
            let Some((one, others)) = one.and_then(|one| Some((one, one.others.as_ref()?))) else {
                bail!("{} has fewer than two data sets", path.display());
            };
            let name = one.name.trim_start_matches(": ");
            let name = format!("{}: others → {name} (forecast {how})", stem(path));
            found.push(self.counts(&name, model, [others, &one.layers])?);
        }
        Ok(found)
    }

    fn file(&mut self, path: &Path, model: &str) -> Result<String> {
        let id = trace::ingest(&self.directory, path, declared(model)?)?.summary.id;
        self.known(id)
    }

    fn taken(&mut self, name: &str, model: &str, counts: &[Vec<f64>]) -> Result<String> {
        let upload = Upload {
            content_type: "application/json".to_owned(),
            name: Some(name.to_owned()),
            declared: declared(model)?,
            ..Upload::default()
        };
        let body = json!({"counts": counts}).to_string();
        let ingested = self.directory.ingest(body.as_bytes(), &upload, &Limits::default());
        self.known(ingested.with_context(|| name.to_owned())?.summary.id)
    }

    fn known(&mut self, id: String) -> Result<String> {
        self.references.traces.insert(id.clone(), self.directory.facts(&id, None)?);
        Ok(id)
    }
}

/// What the model says of a recording of its routing.
fn declared(model: &str) -> Result<Declared> {
    let experts = &Catalog::embedded().model(model)?.value.model.experts;
    Ok(Declared {
        experts: Some(experts.routed),
        top_k: Some(experts.top_k),
        ..Declared::default()
    })
}

fn recorded(name: &str, model: &str, routing: Value) -> Result<Recorded> {
    let experts = Catalog::embedded().model(model)?.value.model.experts.routed;
    // As many devices as leave two experts to each.
    let fits = |devices: &u32| experts.is_multiple_of(*devices) && 2 * devices <= experts;
    let devices = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
    Ok(Recorded { name: name.to_owned(), model: model.to_owned(), devices, routing })
}

/// A file's name without what it holds and its ending.
fn stem(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.trim_start_matches("counts_").trim_start_matches("routes_").to_owned()
}

/// The files of a folder that were recorded on what a model was trained on, by name.
fn trains(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> =
        listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    found.retain(|path| path.to_string_lossy().ends_with(".train.npz"));
    found.sort();
    Ok(found)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Routes as the public recordings hold them: bytes `[tokens, layers, top_k]`, 255 for no data.
#[derive(Deserialize)]
struct Routes {
    num_experts: usize,
    top_k: usize,
    layers: Vec<u16>,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    routes_b64: String,
}

/// Tokens per expert and layer of the first and the second half of a file of routes.
fn halves(path: &Path) -> Result<[Vec<Vec<f64>>; 2]> {
    let shown = || path.display().to_string();
    let routes: Routes = serde_json::from_str(&text(path)?).with_context(shown)?;
    let mut bytes = Vec::new();
    for sequence in &routes.sequences {
        STANDARD.decode_vec(&sequence.routes_b64, &mut bytes).with_context(shown)?;
    }
    let per_token = routes.layers.len() * routes.top_k;
    let counts = |tokens: &[u8]| {
        let mut counts = vec![vec![0.0; routes.num_experts]; routes.layers.len()];
        for token in tokens.chunks_exact(per_token) {
            for (layer, experts) in token.chunks_exact(routes.top_k).enumerate() {
                for expert in experts {
                    if let Some(count) = counts[layer].get_mut(usize::from(*expert)) {
                        *count += 1.0;
                    }
                }
            }
        }
        counts
    };
    let middle = bytes.len() / per_token / 2 * per_token;
    let (first, second) = bytes.split_at(middle);
    Ok([counts(first), counts(second)])
}
