//! A running server: which steps it makes, and how often.
//!
//! A request has a prompt of I tokens and O tokens of output; C requests are served at once, and
//! another takes the place of each that ends. Its prompt is computed in one or more steps, the last
//! of which gives the first token of output; O − 1 decode steps give the others.
//!
//! ```text
//! mixed          g = C/O prompts come in a step, beside D = C − g sequences that decode
//! prompts first  g = C/(O − 1) prompts come between two decode steps of C sequences, alone
//! n = ⌈⌈g/r⌉ · I / (M/r − D/r)⌉  steps that these prompts take on the busiest of r replicas
//! steps of prompts per request = n/g
//! decode steps per request     = max(0, O − 1 − D · n/g) / C
//! ```
//!
//! Where n tokens are drafted for each sequence and a of them accepted, a decode step has 1 + n tokens of
//! a sequence and yields 1 + a: O − 1 tokens are (O − 1)/(1 + a) steps, which take the place of O − 1
//! above, and D sequences have D · (1 + n) tokens.
//!
//! M is the most new tokens of a step, r the replicas of attention. g is rounded to whole prompts
//! and is at least one: fewer than one a step come one at a time. Decode is priced at the mean length
//! I + O/2. Lengths are means, and requests come evenly: a burst makes longer steps. Source: the
//! schedulers of vLLM, SGLang and TensorRT-LLM (`Engine::scheduling`). Worked numbers: 16 requests of
//! 512 and 8 tokens make steps of 2 prompts beside 14 sequences that decode, half a step a
//! request; of 512 and 64 tokens, one step with a prompt and 15 others, then 3 decode steps, a request.

use crate::evaluate::prices::whole_tokens;
use crate::system::{Dtypes, Phase, Running, Speculation, Workload};
use crate::units::Seconds;

/// What a server is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Serving {
    /// Tokens of a prompt, I.
    pub input_tokens: u64,
    /// Tokens of output of a request, O.
    pub output_tokens: u64,
    /// Requests served at once, over all devices, C.
    pub concurrency: u64,
    /// The most new tokens of a step, over all devices, M.
    pub max_batched_tokens: u64,
    /// Replicas of attention, r.
    pub replicas: u64,
    /// How steps are put together.
    pub scheduling: Scheduling,
    /// What is drafted for the sequences that decode.
    pub speculation: Option<Speculation>,
}

/// How an engine puts its steps together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// Prompts, or parts of them, beside the sequences that decode.
    Mixed,
    /// Prompts alone, before any sequence decodes further.
    PromptsFirst,
}

/// A kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// Prompts alone.
    Prefill,
    /// Prompts beside sequences that decode.
    Mixed,
    /// One new token per sequence.
    Decode,
}

impl StepKind {
    /// Every kind with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Prefill, "prefill"), (Self::Mixed, "mixed"), (Self::Decode, "decode")];
}

/// A kind of step that a server makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServedStep {
    /// Which.
    pub kind: StepKind,
    /// Steps of this kind per request.
    pub per_request: f64,
    /// What one of them computes.
    pub workload: Workload,
}

/// What a server gives its users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerTimes {
    /// From the first step of a prompt to its first token, without queueing; `None` of decode alone.
    pub first_token: Option<Seconds>,
    /// Between two tokens of output; `None` where there is only one.
    pub per_output_token: Option<Seconds>,
    /// Tokens of output a second, over all devices.
    pub output_tokens_per_s: f64,
}

/// How the prompts of a server come into its steps.
#[derive(Debug, Clone, Copy)]
struct Prompts {
    /// That come together, g.
    together: u64,
    /// Steps that they take, n.
    steps: u64,
    /// Sequences that decode beside them, D.
    beside: u64,
}

impl Serving {
    fn prompts(&self) -> Prompts {
        let Self { input_tokens, output_tokens, concurrency, replicas, .. } = *self;
        let others = whole_tokens(self.decode_steps()).min(output_tokens - 1);
        let apart = match self.scheduling {
            Scheduling::Mixed => others + 1,
            Scheduling::PromptsFirst => others,
        };
        let together = match apart {
            0 => concurrency,
            apart => ((concurrency + apart / 2) / apart).clamp(1, concurrency),
        };
        let mut beside = match self.scheduling {
            Scheduling::Mixed if output_tokens > 1 => concurrency - together,
            _ => 0,
        };
        let room = self.max_batched_tokens.saturating_sub(beside * self.verified()) / replicas;
        let steps = (together.div_ceil(replicas) * input_tokens).div_ceil(room.max(1));
        // More tokens than a request has cannot be decoded beside the prompts.
        if beside * steps > others * together {
            beside = others * together / steps;
        }
        Prompts { together, steps, beside }
    }

    /// New tokens of a sequence in a step that it decodes in, 1 + n.
    fn verified(&self) -> u64 {
        self.speculation.map_or(1, |speculation| 1 + u64::from(speculation.drafted))
    }

    /// Steps that a request decodes in, (O − 1)/(1 + a).
    fn decode_steps(&self) -> f64 {
        let gained = self.speculation.map_or(1.0, |speculation| 1.0 + speculation.accepted);
        (self.output_tokens - 1) as f64 / gained
    }

    /// Share of the tokens that are computed which belong to prompts: I / (I + O − 1), or with drafted
    /// ones I / (I + (O − 1)(1 + n)/(1 + a)).
    #[must_use]
    pub fn prompt_share(&self) -> f64 {
        let input = self.input_tokens as f64;
        input / (input + self.decode_steps() * self.verified() as f64)
    }

    /// The kinds of steps that are made, prompts first.
    #[must_use]
    pub fn steps(&self, dtypes: Dtypes) -> Vec<ServedStep> {
        let Self { input_tokens, output_tokens, concurrency, .. } = *self;
        let Prompts { together, steps, beside } = self.prompts();
        let length = input_tokens + output_tokens / 2;
        let running = |decoding| {
            (output_tokens > 1).then_some(Running { decoding, held: concurrency, length })
        };
        // Whole prompts, or of a longer one a part that attends to those before it.
        let (sequences, new) =
            ((together / steps).max(1), (together * input_tokens).div_ceil(steps));
        let context =
            if steps > together { (input_tokens + new).div_ceil(2) } else { input_tokens };
        let mut made = vec![ServedStep {
            kind: if beside > 0 { StepKind::Mixed } else { StepKind::Prefill },
            per_request: steps as f64 / together as f64,
            workload: Workload {
                phase: Phase::Prefill,
                sequences,
                tokens_per_step: new + beside * self.verified(),
                context,
                dtypes,
                running: running(beside),
                speculation: self.speculation.filter(|_| beside > 0),
            },
        }];
        let decoded = beside as f64 * made[0].per_request;
        let left = self.decode_steps() - decoded;
        if left > 0.0 {
            made.push(ServedStep {
                kind: StepKind::Decode,
                per_request: left / concurrency as f64,
                workload: Workload {
                    phase: Phase::Decode,
                    sequences: concurrency,
                    tokens_per_step: concurrency * self.verified(),
                    context: length,
                    dtypes,
                    running: running(0),
                    speculation: self.speculation,
                },
            });
        }
        made
    }

    /// What users see where the steps, in the order of [`steps`](Self::steps), take so long.
    ///
    /// ```text
    /// per request = Σ steps per request · time
    /// first token = mean over the g prompts of the steps until theirs is done · time
    /// residence   = requests in service · per request        (Little's law)
    /// per token   = (residence − first token) / (O − 1)
    /// ```
    ///
    /// Worked number: 16 requests of 8 tokens in steps of 2 prompts and 10 ms take 5 ms each: the
    /// first token after 10 ms, then (16 · 5 − 10)/7 = 10 ms between two, 1,600 tokens a second.
    #[must_use]
    pub fn times(&self, steps: &[ServedStep], times: &[Seconds]) -> ServerTimes {
        let Prompts { together, steps: n, beside } = self.prompts();
        let each = steps.iter().zip(times).map(|(step, time)| *time * step.per_request);
        let per_request: Seconds = each.sum();
        let until: u64 = (1..=together).map(|prompt| (prompt * n).div_ceil(together)).sum();
        let first_token = times[0] * (until as f64 / together as f64);
        let in_service = match steps.len() {
            1 if self.scheduling == Scheduling::Mixed => together + beside,
            _ => self.concurrency,
        };
        let others = self.output_tokens - 1;
        let residence = per_request * in_service as f64;
        ServerTimes {
            first_token: Some(first_token),
            per_output_token: (others > 0).then(|| (residence - first_token) / others as f64),
            output_tokens_per_s: self.output_tokens as f64 / per_request.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Dtype;
    use proptest::prelude::*;

    const SIXTEEN: Serving = Serving {
        input_tokens: 512,
        output_tokens: 8,
        concurrency: 16,
        max_batched_tokens: 8192,
        replicas: 1,
        scheduling: Scheduling::Mixed,
        speculation: None,
    };

    fn dtypes() -> Dtypes {
        Workload::prefill(1, 1, Dtype::Bf16).dtypes
    }

    fn made(serving: Serving) -> Vec<(StepKind, f64, u64, u64)> {
        let of = |step: &ServedStep| {
            let Workload { sequences, tokens_per_step, .. } = step.workload;
            (step.kind, step.per_request, sequences, tokens_per_step)
        };
        serving.steps(dtypes()).iter().map(of).collect()
    }

    #[test]
    fn prompts_come_as_sequences_end() {
        assert_eq!(made(SIXTEEN), [(StepKind::Mixed, 0.5, 2, 1038)]);
        let longer = Serving { output_tokens: 64, ..SIXTEEN };
        assert_eq!(made(longer), [(StepKind::Mixed, 1.0, 1, 527), (StepKind::Decode, 3.0, 16, 16)]);
        let first = Serving { scheduling: Scheduling::PromptsFirst, ..longer };
        assert_eq!(
            made(first),
            [(StepKind::Prefill, 1.0, 1, 512), (StepKind::Decode, 63.0 / 16.0, 16, 16)]
        );
    }

    #[test]
    fn drafted_tokens_make_fewer_and_larger_steps() {
        // 63 further tokens at 2.25 a step are 28 steps; each sequence has 4 tokens in one.
        let speculation = Some(Speculation { drafted: 3, accepted: 1.25, draft: None });
        let drafted = Serving { output_tokens: 64, speculation, ..SIXTEEN };
        assert_eq!(
            made(drafted),
            [
                (StepKind::Mixed, 1.0, 1, 512 + 15 * 4),
                (StepKind::Decode, (28.0 - 15.0) / 16.0, 16, 64),
            ]
        );
        assert!((drafted.prompt_share() - 512.0 / (512.0 + 28.0 * 4.0)).abs() < 1e-12);
        // Nothing is drafted for prompts alone.
        let first = Serving { scheduling: Scheduling::PromptsFirst, ..drafted };
        let [prompts, decode] = first.steps(dtypes())[..] else { panic!("no two steps") };
        assert_eq!((prompts.workload.speculation, prompts.workload.tokens_per_step), (None, 512));
        assert!((decode.per_request - 28.0 / 16.0).abs() < 1e-12);
    }

    #[test]
    fn one_token_of_output_is_prefill() {
        for scheduling in [Scheduling::Mixed, Scheduling::PromptsFirst] {
            let one = Serving { output_tokens: 1, scheduling, ..SIXTEEN };
            assert_eq!(one.steps(dtypes())[0].workload, Workload::prefill(16, 512, Dtype::Bf16));
            let halved = Serving { max_batched_tokens: 4096, ..one };
            assert_eq!(halved.steps(dtypes())[0].workload, Workload::prefill(8, 512, Dtype::Bf16));
            let times = one.times(&one.steps(dtypes()), &[Seconds::new(0.016)]);
            assert_eq!(times.per_output_token, None);
            assert!((times.output_tokens_per_s - 1000.0).abs() < 1e-9);
        }
    }

    #[test]
    fn long_prompts_are_cut() {
        let long = Serving { input_tokens: 20_000, concurrency: 4, ..SIXTEEN };
        let [step, ..] = long.steps(dtypes())[..] else { panic!("no step") };
        // 8,189 tokens of room beside 3 sequences that decode: three parts, of which the middle one
        // ends at two thirds of the prompt.
        assert_eq!((step.per_request, step.workload.tokens_per_step), (3.0, 6667 + 2));
        assert_eq!(step.workload.context, (20_000 + 6667_u64).div_ceil(2));
    }

    #[test]
    fn times_follow_from_littles_law() {
        let times = SIXTEEN.times(&SIXTEEN.steps(dtypes()), &[Seconds::new(0.01)]);
        assert!((times.first_token.unwrap().get() - 0.01).abs() < 1e-12);
        assert!((times.per_output_token.unwrap().get() - 0.01).abs() < 1e-12);
        assert!((times.output_tokens_per_s - 1600.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn every_token_is_computed_once(
            input_tokens in 1_u64..5000,
            output_tokens in 1_u64..500,
            concurrency in 1_u64..300,
            room in 1_u64..10_000,
            mixed in proptest::bool::ANY,
        ) {
            let scheduling = if mixed { Scheduling::Mixed } else { Scheduling::PromptsFirst };
            let max_batched_tokens = concurrency + room;
            let serving = Serving {
                input_tokens, output_tokens, concurrency, max_batched_tokens, scheduling, ..SIXTEEN
            };
            let steps = serving.steps(dtypes());
            let tokens = |step: &ServedStep| step.per_request * step.workload.tokens_per_step as f64;
            let decoding = |step: &ServedStep| {
                let workload = &step.workload;
                let decoding = match workload.phase {
                    Phase::Prefill => workload.decoding(),
                    Phase::Decode => workload.tokens_per_step,
                };
                step.per_request * decoding as f64
            };
            let new: f64 = steps.iter().map(|step| tokens(step) - decoding(step)).sum();
            let decoded: f64 = steps.iter().map(decoding).sum();
            // Tokens are whole in every step.
            let over = new - input_tokens as f64;
            prop_assert!((-1e-9..=steps[0].per_request + 1e-9).contains(&over), "{over}");
            prop_assert!((decoded - (output_tokens - 1) as f64).abs() < 1e-6, "{decoded}");
            let most = steps.iter().map(|step| step.workload.tokens_per_step).max().unwrap();
            prop_assert!(most <= max_batched_tokens, "{most}");
        }
    }
}
