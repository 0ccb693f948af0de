//! A catalog file of a device: its datasheet and the fitted constants of its stacks.
//!
//! Constants stand in named sets per operator (`[gemm.NAME]`, `[experts.NAME]`, …), each
//! with its provenance; `[[stack]]` lists which set a stack uses for which operator. Engines
//! find their stack by the kernel of its routed experts, or by those it lists as `kernels`.

mod parts;
mod sections;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value};

use crate::comm::profile::CommunicationProfile;
use crate::formats::catalog_entry::{CatalogEntry, CatalogFileError};
use crate::formats::collectives_toml::CollectivesTable;
use crate::hardware::{ByFormat, Device, Fit, PeakRates, Stack};
use crate::system::Operands;
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};
use crate::violation::Violation;
use sections::{Block, Decode, Experts, Gemm, Prefill, Recurrent, RowKernel, Section, TopK};

type Sets<C> = BTreeMap<String, Section<C>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    memory_bytes: f64,
    bandwidth_bytes_per_s: f64,
    multiprocessors: u32,
    l2_bytes: f64,
    eager_launch_s: f64,
    peak_flop_per_s: Peak,
    stack: Vec<StackTable>,
    gemm: Sets<Gemm>,
    prefill: Sets<Prefill>,
    decode: Sets<Decode>,
    experts: Sets<Experts>,
    rows: Sets<RowKernel>,
    top_k: Sets<TopK>,
    #[serde(default)]
    block: Sets<Block>,
    recurrent: Option<Section<Recurrent>>,
    collectives: Option<CollectivesTable>,
    sources: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peak {
    bf16: f64,
    fp8: Option<f64>,
    fp4: Option<f64>,
    fp32: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StackTable {
    name: String,
    /// Accepted and ignored: engines find a stack by its kernels.
    #[serde(default, rename = "engines")]
    _engines: Vec<String>,
    /// Another stack, from which this one takes whatever it does not name itself.
    like: Option<String>,
    /// Absent where its constants stand for the kernel of its experts alone.
    kernels: Option<Vec<String>>,
    gemm: Option<String>,
    prefill: Option<String>,
    decode: Option<String>,
    experts: Option<String>,
    /// Accepted as `formats.experts.fp8_block`.
    experts_fp8: Option<String>,
    /// Sets of constants in number formats of their own; a law with one takes none of the stack it
    /// is like, whose kernels in other formats are not those of its engine.
    #[serde(default)]
    formats: FormatsTable,
    norm: Option<String>,
    activation: Option<String>,
    top_k: Option<String>,
    copy: Option<String>,
}

/// For every operator the sets of its number formats, `stored/computed` where those differ.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FormatsTable {
    gemm: BTreeMap<String, String>,
    prefill: BTreeMap<String, String>,
    decode: BTreeMap<String, String>,
    experts: BTreeMap<String, String>,
    latent_prefill: BTreeMap<String, String>,
    latent_decode: BTreeMap<String, String>,
    latent_prefill_block: BTreeMap<String, String>,
    latent_decode_block: BTreeMap<String, String>,
}

/// Reads a device's catalog file; the device is named by its id.
pub fn parse(text: &str) -> Result<CatalogEntry<Device>, CatalogFileError> {
    from_document(&toml::from_str(text)?)
}

/// Reads the same fields from a document, such as the device of a question; every part that
/// is wrong is named.
pub fn from_document(document: &Value) -> Result<CatalogEntry<Device>, CatalogFileError> {
    // One reader for files and questions: a second one is a sixth of this crate's code.
    let file: File = serde_path_to_error::deserialize(document)
        .map_err(|_| CatalogFileError::Device(parts::problems(document)))?;
    let broken = file.broken_rules();
    if broken.is_empty() { build(file) } else { Err(CatalogFileError::Device(broken)) }
}

impl File {
    /// The rules that sets of constants break, by their place.
    fn broken_rules(&self) -> Vec<Violation> {
        [
            broken("gemm", &self.gemm),
            broken("prefill", &self.prefill),
            broken("decode", &self.decode),
            broken("experts", &self.experts),
            broken("rows", &self.rows),
            broken("top_k", &self.top_k),
            broken("block", &self.block),
            self.recurrent
                .as_ref()
                .and_then(|set| set.to_fit().err())
                .map_or_else(Vec::new, |detail| {
                    vec![parts::problem("/recurrent".to_owned(), detail)]
                }),
        ]
        .concat()
    }
}

fn broken<C: sections::Constants>(operator: &str, sets: &Sets<C>) -> Vec<Violation> {
    let of = |(name, set): (&String, &Section<C>)| {
        let detail = set.to_fit().err()?;
        Some(parts::problem(format!("/{operator}/{}", parts::escaped(name)), detail))
    };
    sets.iter().filter_map(of).collect()
}

fn build(file: File) -> Result<CatalogEntry<Device>, CatalogFileError> {
    if file.multiprocessors == 0 {
        return Err(refuse(format!("device {} has no multiprocessors: give 1 or more", file.id)));
    }
    if file.stack.is_empty() {
        return Err(refuse(format!("device {} has no [[stack]]: give at least one", file.id)));
    }
    let stacks = stacks(&file)?;
    let recurrent = file
        .recurrent
        .as_ref()
        .map(Section::to_fit)
        .transpose()
        .map_err(|error| refuse(format!("[recurrent] {error}")))?;
    let collectives = file
        .collectives
        .map(CommunicationProfile::try_from)
        .transpose()
        .map_err(|error| refuse(format!("[collectives] {error}")))?;
    let value = Device {
        name: file.id.clone(),
        memory: Bytes::new(file.memory_bytes),
        bandwidth: BytesPerSecond::new(file.bandwidth_bytes_per_s),
        peak: PeakRates {
            bf16: FlopsPerSecond::new(file.peak_flop_per_s.bf16),
            fp8: file.peak_flop_per_s.fp8.map(FlopsPerSecond::new),
            fp4: file.peak_flop_per_s.fp4.map(FlopsPerSecond::new),
            fp32: FlopsPerSecond::new(file.peak_flop_per_s.fp32),
        },
        multiprocessors: file.multiprocessors,
        l2: Bytes::new(file.l2_bytes),
        eager_launch: Seconds::new(file.eager_launch_s),
        recurrent,
        stacks: stacks.into(),
        collectives: collectives.map(Arc::new),
    };
    Ok(CatalogEntry { id: file.id, name: file.name, value, sources: file.sources })
}

/// The stacks in the order of the file, wherever those stand that others are like.
fn stacks(file: &File) -> Result<Vec<Stack>, CatalogFileError> {
    let mut built: BTreeMap<usize, Stack> = BTreeMap::new();
    while built.len() < file.stack.len() {
        let before = built.len();
        for (at, table) in file.stack.iter().enumerate() {
            let like = table.like.as_ref().map(|name| {
                built.iter().find(|(of, stack)| **of != at && stack.name == *name).map(|(_, of)| of)
            });
            if built.contains_key(&at) || like == Some(None) {
                continue;
            }
            let stack = stack(table, file, like.flatten())?;
            built.insert(at, stack);
        }
        let left = file.stack.iter().enumerate().find(|(at, _)| !built.contains_key(at));
        if let Some((_, table)) = left.filter(|_| built.len() == before) {
            let like = table.like.as_deref().unwrap_or_default();
            return Err(refuse(format!(
                "stack {} is like {like}, which is no other stack of the file",
                table.name
            )));
        }
    }
    Ok(built.into_values().collect())
}

fn stack(table: &StackTable, file: &File, like: Option<&Stack>) -> Result<Stack, CatalogFileError> {
    macro_rules! named {
        ($sets:ident, $name:ident) => {
            match (&table.$name, like) {
                (Some(name), _) => set(&file.$sets, stringify!($sets), name)?,
                (None, Some(like)) => like.$name.clone(),
                (None, None) => {
                    let (stack, law) = (&table.name, stringify!($name));
                    return Err(refuse(format!(
                        "stack {stack} names no {law}: name a set, or `like`"
                    )));
                }
            }
        };
    }
    let mut formats = like.map(|like| like.formats.clone()).unwrap_or_default();
    macro_rules! own_formats {
        ($($law:ident $sets:ident),*) => {
            $(if !table.formats.$law.is_empty() {
                formats.$law.clear();
            }
            for (name, own) in &table.formats.$law {
                put(&mut formats.$law, stringify!($law), name, set(&file.$sets, stringify!($sets), own)?)?;
            })*
        };
    }
    own_formats!(
        gemm gemm, prefill prefill, decode decode, experts experts, latent_prefill prefill,
        latent_decode decode, latent_prefill_block block, latent_decode_block block
    );
    if let Some(name) = &table.experts_fp8 {
        put(&mut formats.experts, "experts", FP8_BLOCK, set(&file.experts, "experts", name)?)?;
    }
    let experts = named!(experts, experts);
    let kernel = || match like {
        Some(_) => Vec::new(),
        None => vec![experts.provenance.kernel.clone()],
    };
    Ok(Stack {
        name: table.name.clone(),
        kernels: table.kernels.clone().unwrap_or_else(kernel),
        gemm: named!(gemm, gemm),
        prefill: named!(prefill, prefill),
        decode: named!(decode, decode),
        formats,
        norm: named!(rows, norm),
        activation: named!(rows, activation),
        top_k: named!(top_k, top_k),
        copy: named!(rows, copy),
        experts,
    })
}

/// Puts a fit into a list of formats, in the place of the one of the same format.
fn put<C>(
    formats: &mut ByFormat<C>,
    law: &str,
    format: &str,
    fit: Fit<C>,
) -> Result<(), CatalogFileError> {
    let operands = Operands::named(format).ok_or_else(|| {
        refuse(format!("formats.{law} names \"{format}\": give a format, or stored/computed"))
    })?;
    match formats.iter_mut().find(|(of, _)| *of == operands) {
        Some((_, old)) => *old = fit,
        None => formats.push((operands, fit)),
    }
    Ok(())
}

/// The name of 8-bit floats with block scales, which `experts_fp8` stands for.
const FP8_BLOCK: &str = "fp8_block";

fn set<C: sections::Constants>(
    sets: &Sets<C>,
    operator: &str,
    name: &str,
) -> Result<Fit<C::Domain>, CatalogFileError> {
    sets.get(name)
        .ok_or_else(|| refuse(format!("a stack names [{operator}.{name}], which is not there")))?
        .to_fit()
        .map_err(|rule| refuse(format!("[{operator}.{name}] {rule}")))
}

/// Whether a profile's stacks name engines, which is ignored.
#[must_use]
pub fn names_engines(profile: &Map<String, Value>) -> bool {
    let stacks = profile.get("stack").and_then(Value::as_array);
    stacks.is_some_and(|stacks| stacks.iter().any(|stack| stack.get("engines").is_some()))
}

/// That a device's file is wrong, and how.
#[must_use]
pub fn refuse(message: String) -> CatalogFileError {
    CatalogFileError::Toml(toml::de::Error::custom(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::attention::{Heads, Span};
    use crate::cost::experts::{ExpertShape, Seen};
    use crate::cost::{Laws, expert_law};
    use crate::engines::{LIST, tensorrt_llm, vllm};
    use crate::price::{Basis, Price};
    use crate::system::{Dtype, Dtypes};
    use rstest::rstest;

    const H200: &str = include_str!("../../../../../catalog/devices/h200-sxm.toml");

    #[rstest]
    #[case("a100-sxm4-80gb", include_str!("../../../../../catalog/devices/a100-sxm4-80gb.toml"))]
    #[case("a100-sxm4-40gb", include_str!("../../../../../catalog/devices/a100-sxm4-40gb.toml"))]
    #[case("h100-sxm", include_str!("../../../../../catalog/devices/h100-sxm.toml"))]
    #[case("h200-sxm", H200)]
    #[case("b200-sxm", include_str!("../../../../../catalog/devices/b200-sxm.toml"))]
    #[case("gb200", include_str!("../../../../../catalog/devices/gb200.toml"))]
    #[case("h20", include_str!("../../../../../catalog/devices/h20.toml"))]
    #[case("l40s", include_str!("../../../../../catalog/devices/l40s.toml"))]
    #[case("mi300x", include_str!("../../../../../catalog/devices/mi300x.toml"))]
    fn every_shipped_device_is_read_and_has_a_stack_for_every_engine(
        #[case] id: &str,
        #[case] text: &str,
    ) {
        let entry = parse(text).unwrap();
        assert_eq!(entry.id, id);
        assert!(!entry.sources.is_empty());
        for engine in LIST {
            assert!(entry.value.default_stack(engine).is_some());
        }
        for stack in entry.value.stacks.iter() {
            assert!(!stack.gemm.provenance.source.is_empty());
            assert!(stack.gemm.band > 0.0);
        }
    }

    #[test]
    fn engines_find_their_own_stack() {
        let device = parse(H200).unwrap().value;
        let name = |engine| device.default_stack(engine).map(|stack| stack.name.clone());
        assert_eq!(name(&tensorrt_llm::ENGINE).as_deref(), Some("tensorrt-llm"));
        assert_eq!(name(&vllm::ENGINE).as_deref(), Some("vllm"));
        assert_eq!(device.stack("pytorch").map(|s| s.gemm.basis), Some(Basis::Fitted));
    }

    #[test]
    fn listed_kernels_lead_engines_to_a_stack_and_listed_engines_do_not() {
        let first = "name = \"vllm\"\n";
        assert!(H200.contains(first));
        let with = |line: &str| {
            let device = parse(&H200.replace(first, &format!("{first}{line}\n"))).unwrap().value;
            device.default_stack(&vllm::ENGINE).unwrap().name.clone()
        };
        assert_eq!(with("engines = [\"sglang\", \"nobody\"]"), "vllm");
        assert_eq!(with("kernels = [\"mine\", \"vllm_triton\"]"), "vllm");
        let file = H200
            .replace("name = \"pytorch\"\n", "name = \"pytorch\"\nkernels = [\"vllm_triton\"]\n");
        let device =
            parse(&file.replace(first, "name = \"vllm\"\nkernels = [\"mine\"]\n")).unwrap().value;
        assert_eq!(device.default_stack(&vllm::ENGINE).unwrap().name, "pytorch");
    }

    #[test]
    fn a_stack_like_another_takes_whatever_it_does_not_name_itself() {
        let own = "[[stack]]\nname = \"mine\"\nlike = \"pytorch\"\nformats.gemm = { \"fp8\" = \"pytorch\" }\n\n";
        let first = H200.find("[[stack]]").unwrap();
        let file = format!("{}{own}{}", &H200[..first], &H200[first..]);
        let device = parse(&file).unwrap().value;
        let (mine, other) = (device.stack("mine").unwrap(), device.stack("pytorch").unwrap());
        assert_eq!((&mine.gemm, &mine.experts), (&other.gemm, &other.experts));
        let fp8 = Operands::of(Dtype::Fp8, Dtype::Fp8);
        assert_eq!(mine.formats.gemm, [(fp8, other.gemm.clone())]);
        let lost = parse(&file.replace("like = \"pytorch\"", "like = \"mine\"")).unwrap_err();
        assert!(format!("{lost:?}").contains("stack mine is like mine"), "{lost:?}");
        let odd =
            parse(&file.replace("\"fp8\" = \"pytorch\"", "\"fp7\" = \"pytorch\"")).unwrap_err();
        assert!(format!("{odd:?}").contains("formats.gemm names"), "{odd:?}");
    }

    #[rstest]
    #[case("basis = \"fitted\"", "basis = \"guessed\"")]
    #[case("compute = 0.", "compute = 7.")]
    #[case("multiprocessors", "multi_processors")]
    fn wrong_files_are_refused(#[case] from: &str, #[case] to: &str) {
        assert!(H200.contains(from));
        assert!(parse(&H200.replace(from, to)).is_err());
    }

    // Rows of the tables the constants were fitted to (aiconfigurator-core 0.12.0): the
    // shipped file and the law as coded must still meet them within the stated band.
    #[rstest]
    #[case(16.0, 4096.0, 16384.0, 37.3)]
    #[case(16.0, 12288.0, 12288.0, 78.1)]
    #[case(256.0, 4096.0, 4096.0, 16.9)]
    #[case(256.0, 8192.0, 2048.0, 15.2)]
    #[case(512.0, 12288.0, 12288.0, 202.4)]
    #[case(4096.0, 4096.0, 4096.0, 175.5)]
    #[case(8192.0, 12288.0, 12288.0, 3100.9)]
    fn shipped_constants_meet_measured_products(
        #[case] m: f64,
        #[case] n: f64,
        #[case] k: f64,
        #[case] measured_us: f64,
    ) {
        let price = tensorrt_llm(|laws| laws.gemm.price(m, n, k));
        assert!((price.time.get() * 1e6 / measured_us - 1.0).abs() < price.band);
    }

    #[rstest]
    #[case(8.0, 2048.0, 717.6)]
    #[case(2.0, 8192.0, 2059.3)]
    #[case(32.0, 512.0, 387.3)]
    fn shipped_constants_meet_measured_prefill(
        #[case] sequences: f64,
        #[case] tokens: f64,
        #[case] measured_us: f64,
    ) {
        let span = Span { sequences, new: tokens, context: tokens, window: None };
        let price = tensorrt_llm(|laws| laws.attention.price_prefill(&HEADS, &span));
        assert!((price.time.get() * 1e6 / measured_us - 1.0).abs() < price.band);
    }

    #[rstest]
    #[case(32.0, 4096.0, 143.3)]
    #[case(8.0, 32768.0, 264.2)]
    #[case(32.0, 16384.0, 493.0)]
    fn shipped_constants_meet_measured_decode(
        #[case] sequences: f64,
        #[case] context: f64,
        #[case] measured_us: f64,
    ) {
        let span = Span { sequences, new: 1.0, context, window: None };
        let price = tensorrt_llm(|laws| laws.attention.price_decode(&HEADS, &span));
        assert!((price.time.get() * 1e6 / measured_us - 1.0).abs() < price.band);
    }

    // Mixtral 8x7B, four local experts of a group of two devices, balanced.
    #[rstest]
    #[case(64.0, 357.0)]
    #[case(1024.0, 532.0)]
    #[case(4096.0, 1767.0)]
    #[case(16384.0, 7155.0)]
    fn shipped_constants_meet_measured_experts(#[case] tokens: f64, #[case] measured_us: f64) {
        let device = parse(H200).unwrap().value;
        let stack = device.stack("tensorrt-llm").unwrap();
        let shape = ExpertShape {
            hidden: 4096.0,
            intermediate: 14336.0,
            gated: true,
            operands: Operands::BF16,
            rows: Dtype::Bf16,
        };
        let seen = Seen::Group { tokens, pairs: 2.0 * tokens };
        let law = expert_law(&device, stack, &shape, seen);
        let price = law.price((0..4).map(|_| law.piece(tokens / 4.0)).sum());
        assert!((price.time.get() * 1e6 / measured_us - 1.0).abs() < price.band);
    }

    const HEADS: Heads =
        Heads { query: 32.0, kv: 8.0, qk_width: 128.0, v_width: 128.0, cached: 256.0 };

    fn tensorrt_llm(price: impl Fn(&Laws) -> Price) -> Price {
        let device = parse(H200).unwrap().value;
        let bf16 = Dtypes::all(Dtype::Bf16);
        price(&Laws::bind(&device, device.stack("tensorrt-llm").unwrap(), &bf16))
    }
}
