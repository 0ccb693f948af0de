//! The closed choices of answers by name, as the API description lists them.

use crate::wire::field::{OneOf, named};
use moe_gps_core::advice::choose::Verdict;
use moe_gps_core::advice::sensitivity::flip::Parameter;
use moe_gps_core::engines;
use moe_gps_core::question::{PredictorSource, RebalanceMode};
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{Communication, Preset};

use crate::wire::question::{ASKED_PHASES, Method};
use crate::wire::sweep::SweptParameter;

named! {
    /// A strategy.
    StrategyName: OneOf(&Strategy::ALL)
}

named! {
    /// How sure it is that the advice is right.
    VerdictName: OneOf(&Verdict::ALL)
}

named! {
    /// What a verdict is against.
    BaselineName: OneOf(&[((), "none"), ((), "current")])
}

named! {
    /// A serving engine.
    EngineName: OneOf(&engines::names())
}

named! {
    /// Where the figures of a predictor come from.
    SourceName: OneOf(&PredictorSource::ALL)
}

named! {
    /// How plans are renewed.
    RebalanceModeName: OneOf(&RebalanceMode::ALL)
}

named! {
    /// How an answer was computed.
    MethodName: OneOf(&Method::ALL)
}

named! {
    /// A phase of the workload.
    PhaseName: ASKED_PHASES
}

named! {
    /// A preset of the switches.
    PresetName: OneOf(&Preset::ALL)
}

named! {
    /// How tokens reach their experts.
    CommunicationName: OneOf(&Communication::ALL)
}

named! {
    /// What the price of a term rests on.
    BasisName: OneOf(&[((), "measured"), ((), "fitted"), ((), "roofline"), ((), "paper")])
}

named! {
    /// A quantity that flip points are searched along, or the pattern of communication.
    FlipParameterName: OneOf(&flip_parameters())
}

named! {
    /// Whether the copies of experts are hidden behind attention.
    CopiesName: OneOf(&[((), "hidden"), ((), "exposed")])
}

named! {
    /// A quantity that can be swept.
    SweptParameterName: OneOf(&SweptParameter::ALL)
}

fn flip_parameters() -> Vec<((), &'static str)> {
    let varied = Parameter::ALL.into_iter().map(Parameter::id);
    varied.chain(["communication"]).map(|name| ((), name)).collect()
}
