"""The kinds of operators, in the order they are measured: what decides most advice comes first."""

from collections.abc import Callable

from moe_gps_measure.blocks import attention, engines, experts, gemm, latent, launches, memory, norms, predictors, quantised
from moe_gps_measure.case import Case
from moe_gps_measure.question import Question

BLOCKS: dict[str, Callable[[Question], list[Case]]] = {
    "gemm": gemm.cases,
    "experts": experts.cases,
    "engines": engines.cases,
    "attention": attention.cases,
    "latent attention": latent.cases,
    "predictors": predictors.cases,
    "fp8": quantised.cases,
    "norms and top-k": norms.cases,
    "copies": memory.cases,
    "launches": launches.cases,
}
