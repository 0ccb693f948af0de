//! Names as people write them: which entry one stands for, and which an unknown one may mean.
//!
//! A name is an id, or one of its aliases. Case does not matter, underscores and blanks stand for
//! hyphens, and the organisation in front of a repository's name is left out.

use crate::catalog::aliases;

/// Names longer than this are no typing mistakes; it also bounds the work.
const MAX_LENGTH: usize = 64;

/// Ids that are suggested at most.
const MOST_SUGGESTED: usize = 4;

/// The one of these ids that a name stands for, itself or by an alias.
#[must_use]
pub fn resolve<'a>(name: &str, ids: &[&'a str]) -> Option<&'a str> {
    let wanted = spelled(name)?;
    let stands_for = |id: &&&str| **id == wanted || aliases::of(id).contains(&wanted.as_str());
    ids.iter().find(stands_for).copied()
}

/// What to say of a name that stands for none of these ids: those it may mean, or all of them.
#[must_use]
pub fn hint(name: &str, ids: &[&str], all: &str) -> String {
    let quoted: Vec<String> = meant(name, ids).iter().map(|id| format!("\"{id}\"")).collect();
    if quoted.is_empty() {
        all.to_owned()
    } else {
        format!("did you mean {}?", quoted.join(" or "))
    }
}

/// The ids that an unknown name may mean: those that begin with it, or have all its parts; else the
/// one it begins with; else the nearest by typing mistakes, none of which is in a number, for another number is
/// another generation.
fn meant<'a>(name: &str, ids: &[&'a str]) -> Vec<&'a str> {
    let Some(wanted) = spelled(name) else { return Vec::new() };
    let has_part = |id: &str, part: &str| id.split('-').any(|other| other == part);
    // `a10` is another device than `a100`, `l4` than `l40s`: a number ends where its digits end.
    let ends_in_digit = wanted.ends_with(|c: char| c.is_ascii_digit());
    let goes_on = |name: &str| {
        let rest = name.strip_prefix(wanted.as_str());
        rest.is_some_and(|rest| !(ends_in_digit && rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    let begins = |id: &str| {
        goes_on(id)
            || aliases::of(id).iter().any(|name| goes_on(name))
            || wanted.contains('-') && wanted.split('-').all(|part| has_part(id, part))
    };
    let mut found: Vec<&str> = ids.iter().copied().filter(|id| begins(id)).collect();
    if found.is_empty() {
        found = without_memory(&wanted).map_or(Vec::new(), |bare| meant(bare, ids));
    }
    if found.is_empty() {
        let continues = |id: &&str| {
            wanted.strip_prefix(id).is_some_and(|rest| rest.starts_with(['-', '.', ':']))
        };
        let longest = ids.iter().copied().filter(continues).max_by_key(|id| id.len());
        found.extend(longest.or_else(|| nearest(&wanted, ids)));
    }
    found.truncate(MOST_SUGGESTED);
    found
}

/// The one of a closed list of names that a misspelt one may mean: the only one that it is a part of, or that
/// is a part of it; else the nearest by typing mistakes, up to a quarter of it.
#[must_use]
pub fn misspelt<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = spelled(name)?;
    let known: Vec<(String, &str)> =
        known.iter().filter_map(|known| Some((spelled(known)?, *known))).collect();
    let is_part = |whole: &str, part: &str| part.len() > 2 && whole.contains(part);
    let mut parts = known
        .iter()
        .filter(|(spelt, _)| is_part(spelt, &wanted) || is_part(&wanted, spelt))
        .map(|(_, known)| *known);
    match (parts.next(), parts.next()) {
        (Some(only), None) => return Some(only),
        (Some(_), Some(_)) => return None,
        _ => {}
    }
    let distances =
        known.iter().map(|(spelt, known)| (strsim::osa_distance(&wanted, spelt), *known));
    let (distance, near) = distances.min()?;
    (distance * 4 <= wanted.chars().count()).then_some(near)
}

/// A device's name without the size of its memory at the end, which is wrong or that of every one of them.
fn without_memory(name: &str) -> Option<&str> {
    let (bare, size) = name.rsplit_once('-')?;
    let digits = size.strip_suffix("gb")?;
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then_some(bare)
}

/// The id with the fewest characters to insert, delete, replace or swap, up to a third of them.
fn nearest<'a>(wanted: &str, ids: &[&'a str]) -> Option<&'a str> {
    let same_numbers = ids.iter().filter(|id| numbers(id).eq(numbers(wanted)));
    let distances = same_numbers.map(|id| (strsim::osa_distance(wanted, id), *id));
    let (distance, near) = distances.min()?;
    (distance * 3 <= wanted.chars().count()).then_some(near)
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty())
}

/// A name in the spelling of ids; `None` for what can be none.
fn spelled(name: &str) -> Option<String> {
    let name = name.trim().rsplit('/').next().unwrap_or_default();
    if name.is_empty() || name.len() > MAX_LENGTH {
        return None;
    }
    Some(name.to_lowercase().replace(['_', ' '], "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [&str; 5] =
        ["deepseek-v2-lite", "deepseek-v3", "kimi-k2", "mixtral-8x22b", "mixtral-8x7b"];
    const DEVICES: [&str; 5] = ["a100-sxm4-40gb", "a100-sxm4-80gb", "h100-sxm", "h20", "h200-sxm"];
    const LINKS: [&str; 5] = ["ib200", "ib400", "nvlink3", "nvlink4", "pcie4"];

    #[test]
    fn an_entry_is_found_by_every_name_people_use() {
        for (name, ids, id) in [
            ("Kimi_K2", &MODELS, "kimi-k2"),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", &MODELS, "mixtral-8x7b"),
            ("deepseek-ai/DeepSeek-R1", &MODELS, "deepseek-v3"),
            ("H100-SXM5-80GB", &DEVICES, "h100-sxm"),
            ("NVIDIA A100-SXM4-80GB", &DEVICES, "a100-sxm4-80gb"),
            ("NVIDIA H200", &DEVICES, "h200-sxm"),
            ("InfiniBand NDR", &LINKS, "ib400"),
            ("NVLink 4.0", &LINKS, "nvlink4"),
        ] {
            assert_eq!(resolve(name, ids), Some(id), "{name}");
        }
        assert_eq!(resolve("deepseek-v4", &MODELS), None);
        assert_eq!(resolve("", &MODELS), None);
    }

    #[test]
    fn an_unknown_name_is_answered_by_meaning() {
        for (name, ids, expected) in [
            ("mixtral", &MODELS, &["mixtral-8x22b", "mixtral-8x7b"][..]),
            ("mixtral-8x7", &MODELS, &["mixtral-8x7b"]),
            ("mixtral-8x7b:latest", &MODELS, &["mixtral-8x7b"]),
            ("mxitral-8x7b", &MODELS, &["mixtral-8x7b"]),
            ("h100", &DEVICES, &["h100-sxm"]),
            ("A100", &DEVICES, &["a100-sxm4-40gb", "a100-sxm4-80gb"]),
            ("nvlink", &LINKS, &["nvlink3", "nvlink4"]),
            ("A100-80GB", &DEVICES, &["a100-sxm4-80gb"]),
            ("H200-141GB", &DEVICES, &["h200-sxm"]),
            ("deepseek-lite", &MODELS, &["deepseek-v2-lite"]),
            ("infiniband", &LINKS, &["ib200", "ib400"]),
        ] {
            assert_eq!(meant(name, ids), expected, "{name}");
        }
    }

    #[test]
    fn a_misspelt_choice_is_told_where_one_is_meant() {
        let names =
            ["batch_size", "kv_length", "attention_tensor", "expert_tensor", "expert_parallel"];
        for (name, meant) in [
            ("batchsize", Some("batch_size")),
            ("kv_len", Some("kv_length")),
            ("batch_sise", Some("batch_size")),
            ("tensor", None),
            ("tensor_parallel", None),
            ("seed", None),
            ("", None),
        ] {
            assert_eq!(misspelt(name, &names), meant, "{name}");
        }
    }

    #[test]
    fn another_generation_or_something_else_is_never_suggested() {
        for (name, ids) in [
            ("deepseek-v4", &MODELS),
            ("h800-sxm", &DEVICES),
            ("a10", &DEVICES),
            ("h10-80gb", &DEVICES),
            ("nvlink6", &LINKS),
            ("ib20", &LINKS),
            ("bloom", &MODELS),
            ("", &MODELS),
            (&"a".repeat(1_000_000), &MODELS),
        ] {
            assert_eq!(meant(name, ids), [""; 0], "{}", &name[..name.len().min(20)]);
        }
        assert_eq!(hint("bloom", &["x"], "the catalog has x"), "the catalog has x");
        assert_eq!(
            hint("mixtral", &MODELS, ""),
            "did you mean \"mixtral-8x22b\" or \"mixtral-8x7b\"?"
        );
    }
}
