//! The answers that the documents show are those that the program prints.

use std::process::Command;

use super::{assert_part, root};

const HEADLINE: [&str; 2] = ["advise", "examples/questions/paper-mixtral-a100.json"];
/// The question and the trace of `serve --demo`.
const DEMO: [&str; 4] = [
    "advise",
    "examples/questions/mixtral-h100.json",
    "--trace",
    "examples/traces/mixtral_like_e8k2.python.train.npz",
];

/// What the program prints.
pub(super) fn printed(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_moe-gps");
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A block of code.
fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

/// Words, and the numbers inside them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let is_numeric = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    text.split_whitespace()
        .flat_map(move |word| word.as_bytes().chunk_by(move |a, b| is_numeric(a) == is_numeric(b)))
        .map(|piece| std::str::from_utf8(piece).unwrap())
}

/// Whether two numbers differ by at most 0.5 %, or by one in the last place.
fn close(shown: &str, computed: &str) -> bool {
    let (Ok(x), Ok(y)) = (shown.parse::<f64>(), computed.parse::<f64>()) else { return false };
    let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let last_place = 10.0_f64.powi(-i32::try_from(decimals).unwrap());
    (x - y).abs() <= f64::max(0.005 * x.abs(), 1.001 * last_place)
}

/// Whether two texts have the same words, and numbers that are close.
fn alike(shown: &str, computed: &str) -> bool {
    let same = |(a, b): (&str, &str)| a == b || close(a, b);
    pieces(shown).count() == pieces(computed).count()
        && pieces(shown).zip(pieces(computed)).all(same)
}

/// The same without the numbers of learned predictors, which are fitted bit for bit alike on one
/// kind of processor only.
fn alike_but_learned(shown: &str, computed: &str) -> bool {
    let stated = |text: &str| -> String {
        let learned = |line: &str| line.contains("(ffn) ") || line.contains("(lstm) ");
        text.lines()
            .map(|line| if learned(line) { line.replace(|c: char| !c.is_alphabetic(), " ") } else { line.to_owned() } + "\n")
            .collect()
    };
    alike(&stated(shown), &stated(computed))
}

#[test]
fn the_answers_shown_are_those_printed() {
    let headline = printed(&HEADLINE);
    assert_part("docs/answer.md", "headline", &indented(headline.lines()), alike);
    let demo = printed(&DEMO);
    assert_part("docs/answer.md", "demo", &indented(demo.lines()), alike_but_learned);
    let strategies = demo.lines().skip_while(|line| !line.starts_with(" strategy"));
    let strategies = indented(strategies.take_while(|line| !line.is_empty()));
    assert_part("README.md", "strategies", &strategies, alike_but_learned);
}

#[test]
fn numbers_are_compared_with_tolerance_and_words_without() {
    assert!(alike("a layer of 1147.2 µs (23.7 %)", "a layer of  1150.1 µs (23.8 %)"));
    assert!(!alike("a layer of 1147.2 µs", "a layer of 1160.2 µs"));
    assert!(!alike("1147.2 µs", "1147.2 ms"));
    assert!(!alike("7 moves", "7 moves."));
}
