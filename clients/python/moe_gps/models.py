"""The bodies of requests and answers, as the API description has them.

Written by `generate.py`: change the service instead. Each is a plain dictionary at run time; the types are for editors
and checkers. A later service may answer with more fields than these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, Union

if TYPE_CHECKING:
    # Newer than Python 3.9, and of use to checkers only.
    from typing_extensions import NotRequired, TypeAlias
else:
    # Objects with a field that is a word of Python, such as `from`, are evaluated.
    NotRequired = Optional


class AccuracyPoint(TypedDict):
    """
    A predictor's accuracy at one skewness.
    """

    skewness: float
    accuracy: float


class AscendDevice(TypedDict):
    """
    A device of `vllm_ascend`.
    """

    device_id: int
    device_expert: list[int]


class AscendLayer(TypedDict):
    """
    A layer of `vllm_ascend`.
    """

    layer_id: int
    device_count: int
    device_list: list[AscendDevice]


class Assumptions(TypedDict):
    """
    Switches of the cost model; what is left out follows `preset`.
    """

    preset: NotRequired[Literal['calibrated', 'paper']]
    error_model: NotRequired[Literal['optimistic', 'typical', 'pessimistic']]
    cap_at_baseline: NotRequired[bool]
    communication: NotRequired[Literal['replicated', 'allgather_reducescatter', 'all_to_all_normal', 'all_to_all_low_latency', 'paper']]
    t2e_skips_scatter: NotRequired[bool]
    misroute_repair: NotRequired[Literal['none', 'wrong_tokens', 'full_exchange']]
    copy_overlap: NotRequired[Literal['none', 'attention', 'free']]
    predictor_overlap: NotRequired[Literal['none', 'attention']]
    overlap: NotRequired[Literal['none', 'shared_expert', 'two_batch']]
    k_comm: NotRequired[float]
    launch_s: NotRequired[float]
    attention_imbalance: NotRequired[float]
    replica_split: NotRequired[Literal['hashed', 'nearest_first', 'optimal']]
    seed: NotRequired[int]


class AtTpot(TypedDict):
    """
    What a strategy serves in steps no longer than that of `none` at the batch asked for.
    """

    sequences: int
    tokens_per_s: float
    step_latency_s: float


class Attention1(TypedDict):
    """
    Multi-head or grouped-query attention.
    """

    heads: int
    kv_heads: int
    head_size: int
    value_head_size: int
    window_tokens: NotRequired[Optional[int]]
    windowed_layers: int
    kind: Literal['grouped']


class Attention2(TypedDict):
    """
    Multi-head latent attention.
    """

    heads: int
    query_rank: NotRequired[Optional[int]]
    kv_rank: int
    nope_head_size: int
    rope_head_size: int
    value_head_size: int
    kind: Literal['latent']


class Attention3(TypedDict):
    """
    One stream that is key and value of every head.
    """

    heads: int
    head_size: int
    query_rank: int
    output_groups: int
    output_rank: int
    kind: Literal['shared']


Attention: TypeAlias = Union[Attention1, Attention2, Attention3]


BaselineName: TypeAlias = Literal['none', 'current']


BasisName: TypeAlias = Literal['measured', 'fitted', 'roofline', 'paper']


class BusiestLayer(TypedDict):
    """
    One layer, expert by expert and slot by slot.
    """

    layer: int
    devices: int
    expert_shares: list[float]
    slots_before: list[int]
    slots_after: NotRequired[Optional[list[int]]]


Bytes: TypeAlias = bytes


class Ceiling(TypedDict):
    """
    The ceiling of balancing.
    """

    speedup_over_none: NotRequired[Optional[float]]
    layer_latency_s: NotRequired[Optional[float]]


CommunicationName: TypeAlias = Literal['replicated', 'allgather_reducescatter', 'all_to_all_normal', 'all_to_all_low_latency', 'paper']


class ComparedNumber(TypedDict):
    """
    A number in both recommendations.
    """

    a: NotRequired[Optional[float]]
    b: NotRequired[Optional[float]]
    ratio: NotRequired[Optional[float]]


class Type(TypedDict):
    pass


class Status(TypedDict):
    pass


class Condition(TypedDict):
    """
    One condition of a deployment.
    """

    type: Type
    status: Status
    reason: str
    message: str
    last_transition_time: str


class Convention(TypedDict):
    """
    One convention over layers.
    """

    mean: float
    worst: float
    per_layer: list[float]


CopiesName: TypeAlias = Literal['hidden', 'exposed']


Counts: TypeAlias = Union[dict[str, Any], list[Any]]


PhysicalToLogicalItemItem: TypeAlias = int


PhysicalToLogicalItem: TypeAlias = list[PhysicalToLogicalItemItem]


class Current(TypedDict):
    """
    The placement in use now.
    """

    strategy: NotRequired[Literal['none', 'replace_only', 'distribution_only', 'token_to_expert']]
    physical_to_logical: NotRequired[list[PhysicalToLogicalItem]]
    slots_per_device: NotRequired[int]


class Curve(TypedDict):
    """
    Overhead over accuracy: t = `a_s` · exp(c · accuracy).
    """

    a_s: float
    c: float


class DeviceProfile(TypedDict):
    """
    The fields of a catalog file, as `calibrate` writes it; `id` names the device.
    """

    id: str


class Difference(TypedDict):
    """
    A place at which two documents differ.
    """

    pointer: str
    a: NotRequired[Any]
    b: NotRequired[Any]


class Doubt(TypedDict):
    """
    Something that a price rests on and that may be otherwise.
    """

    id: str
    low: float
    high: float


class Drift(TypedDict):
    """
    How far parts of the trace are from each other.
    """

    parts: int
    distribution_error: list[list[float]]
    mean: float
    most: float
    by_chance: float


class Dtypes(TypedDict):
    """
    Number formats of what is stored, multiplied and sent.
    """

    weights: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp8_block', 'nvfp4', 'mxfp4', 'int4', 'fp32']]
    activations: NotRequired[Literal['bf16', 'fp16', 'fp8', 'nvfp4']]
    kv: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp32']]
    dispatch: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp32']]
    combine: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp32']]


class Duplication(TypedDict):
    """
    How far experts may be copied.
    """

    slots_per_device: NotRequired[int]
    max_copies: NotRequired[int]
    algorithm: NotRequired[Literal['best', 'eplb', 'paper_greedy']]
    allow_duplicates: NotRequired[bool]
    groups: NotRequired[Literal['hard', 'soft', 'none']]


class Engine(TypedDict):
    """
    The serving engine and the settings that change its cost.
    """

    name: Literal['vllm', 'sglang', 'tensorrt-llm', 'vllm-ascend']
    version: NotRequired[str]
    all2all_backend: NotRequired[str]
    moe_kernel: NotRequired[str]
    cuda_graph: NotRequired[bool]


EngineName: TypeAlias = Literal['vllm', 'sglang', 'tensorrt-llm', 'vllm-ascend']


class EnginePlan(TypedDict):
    """
    How to run a plan in one engine.
    """

    engine: EngineName
    format: NotRequired[Optional[str]]
    set: list[str]
    argv: NotRequired[list[str]]
    env: NotRequired[dict[str, str]]
    yaml: NotRequired[list[str]]
    ignores: str
    limits: list[str]


class EngineSupport(TypedDict):
    """
    Whether an engine runs a strategy.
    """

    engine: EngineName
    runnable: bool
    because: str
    balances_model: NotRequired[Optional[bool]]


class ErrorPoint(TypedDict):
    """
    A forecast's error at one skewness.
    """

    skewness: float
    distribution_error: float


class Experts(TypedDict):
    """
    Experts of a layer.
    """

    routed: int
    top_k: int
    zero_cost: int
    latent_size: NotRequired[Optional[int]]
    intermediate_size: int
    gated: bool
    shared_intermediate_size: int
    routing_groups: NotRequired[Optional[int]]
    routing_groups_per_token: NotRequired[Optional[int]]


class FileForm(TypedDict):
    file: bytes


FlipParameterName: TypeAlias = Literal['skewness', 'link_bandwidth_bytes_per_s', 'inter_node_bandwidth_bytes_per_s', 'tokens_per_step', 'output_tokens', 'predictor_accuracy', 'predictor_overhead_s', 'communication']


class Gain(TypedDict):
    """
    A ratio of costs, above 1 where the strategy is the faster, as an interval from priced doubts.
    """

    low: float
    mid: float
    high: float


class Health(TypedDict):
    """
    What a probe answers when all is well.
    """

    status: str


class Imbalance(TypedDict):
    """
    The same imbalance in the three conventions engines print.
    """

    max_over_mean: Convention
    mean_over_max: Convention
    excess: Convention


class IntervalTried(TypedDict):
    """
    One interval with what it costs.
    """

    interval_steps: int
    layer_latency_s: NotRequired[Optional[float]]
    rebalance_s: float
    renewals: int


Labels: TypeAlias = dict[str, str]


class Lag(TypedDict):
    """
    The error of a forecast of one age.
    """

    lag_steps: int
    distribution_error: float


class LatencyMatrices(TypedDict):
    """
    Latencies by strategy.
    """

    none: list[list[Optional[float]]]
    replace_only: list[list[Optional[float]]]
    distribution_only: list[list[Optional[float]]]
    token_to_expert: list[list[Optional[float]]]


class Layout(TypedDict):
    """
    A way to spread the model over the same devices.
    """

    attention_tensor: int
    attention_data: int
    expert_parallel: int
    expert_tensor: int
    layer_latency_s: float
    model_latency_s: float
    fits: bool
    needed_bytes: float
    missing_bytes: float


class Link(TypedDict):
    """
    One link of the catalog.
    """

    id: str
    name: str
    bandwidth_bytes_per_s: float
    latency_s: float
    domain_devices: NotRequired[Optional[int]]
    sources: dict[str, str]


class LinkList(TypedDict):
    """
    All links of the catalog.
    """

    items: list[Link]


class LinkNumbers(TypedDict):
    """
    A link by its numbers.
    """

    name: NotRequired[str]
    bandwidth_bytes_per_s: NotRequired[float]
    latency_s: NotRequired[float]


LoadsWindow = TypedDict(
    'LoadsWindow',
    {
        'trace_id': str,
        'phase': NotRequired[Optional[Literal['prefill', 'decode']]],
        'from': NotRequired[Optional[str]],
        'to': str,
        'posted_at': str,
    },
)


class MeasuredLayer(TypedDict):
    """
    Profiled times of one layer.
    """

    attention_s: float
    all_reduce_s: float
    expert_ffn_balanced_s: float


class Memory(TypedDict):
    """
    Memory of one device under a plan, bytes unless said otherwise.
    """

    capacity_bytes: float
    reserve_bytes: float
    weights_bytes: float
    replica_bytes: float
    kv_needed_bytes: float
    missing_bytes: float
    kv_tokens_lost_per_device: float
    max_concurrent_sequences_before: int
    max_concurrent_sequences_after: int


MethodName: TypeAlias = Literal['analytic', 'simulated']


class ModelConfig(TypedDict):
    """
    The fields of a `config.json`, or these under `config`; `id` names the model.
    """

    id: str


class ModelProvenance(TypedDict):
    """
    A model as it was read.
    """

    family: str
    layers: int
    moe_layers: int
    experts: int
    top_k: int
    effective_top_k: int
    parameters: int
    active_per_token: int
    kv_bytes_per_token: float
    index_bytes_per_token: float
    state_bytes_per_sequence: float
    weight_bytes: float
    formats: dict[str, Any]
    not_priced: list[str]


class MountedPlacement(TypedDict):
    """
    A placement file to mount.
    """

    url: str
    path: str


class OptionPrice(TypedDict):
    """
    What an option is worth, on drawn steps under the plan of the recommended strategy.
    """

    layer_latency_off_s: float
    layer_latency_on_s: float
    overhead_s: float
    gain: Gain
    busiest_off: float
    busiest_on: float


class OptionSupport(TypedDict):
    """
    Whether an engine has an option.
    """

    engine: EngineName
    runnable: bool
    because: str
    argv: list[str]


class Outcome(TypedDict):
    """
    What was measured: `step_s` or `tpot_s`, one of the two.
    """

    strategy: Literal['none', 'replace_only', 'distribution_only', 'token_to_expert']
    tpot_s: NotRequired[float]
    step_s: NotRequired[float]
    steps: NotRequired[int]
    note: NotRequired[str]


class Over(TypedDict):
    """
    Over layers.
    """

    mean: float
    worst: float


class Parallelism(TypedDict):
    """
    How the model is spread over the devices.
    """

    attention_tensor: NotRequired[int]
    attention_data: NotRequired[int]
    expert_parallel: NotRequired[int]
    expert_tensor: NotRequired[int]
    pipeline: NotRequired[int]


class Parameters(TypedDict):
    """
    Number of parameters.
    """

    published: NotRequired[Optional[int]]
    published_excludes: NotRequired[Optional[str]]
    computed: int
    computed_error: NotRequired[Optional[float]]
    active_per_token: int
    attention_per_layer: int
    other_mixers: int
    cross_attention_per_layer: int
    router_per_layer: int
    routed_expert: int
    shared_experts_per_layer: int
    dense_ffn_per_layer: int
    norms_per_layer: int
    embeddings: int
    outside_layers: int


class PeakRates(TypedDict):
    """
    Peak dense rates of the matrix units, per number format.
    """

    bf16: float
    fp8: NotRequired[Optional[float]]
    fp4: NotRequired[Optional[float]]
    fp32: float


class Phase(TypedDict):
    """
    A kind of step of a server.
    """

    phase: str
    share_of_steps: float
    share_of_time: float
    tokens_per_step: int
    layer_latency_s: float
    step_latency_s: float
    speedup_over_none: NotRequired[Optional[float]]


class PhaseTrace(TypedDict):
    """
    An uploaded trace of one phase.
    """

    id: str
    phase: Literal['prefill', 'decode']


class PlacementFile1(TypedDict):
    """
    `sglang`.
    """

    physical_to_logical_map: list[list[int]]


class PlacementFile2(TypedDict):
    """
    `vllm_ascend`.
    """

    moe_layer_count: int
    layer_list: list[AscendLayer]


class PlacementLayer(TypedDict):
    """
    The plan of one layer.
    """

    layer: int
    model_layer: int
    physical_to_logical: list[int]
    replicas: list[int]
    moves: int
    planned_imbalance: float


class PlanOnLoads(TypedDict):
    """
    One plan on the part held out of every trace.
    """

    in_sample_imbalance: float
    planned_imbalance: list[float]
    imbalance: list[float]
    step_imbalance: list[float]
    layer_latency_s: list[float]
    speedup_over_none: list[float]


Policy = TypedDict(
    'Policy',
    {
        'min_gain': NotRequired[float],
        'for': NotRequired[Union[str, float]],
        'every': NotRequired[Union[str, float]],
        'keep_windows': NotRequired[int],
        'stall_s': NotRequired[float],
    },
)


PolicyInForce = TypedDict(
    'PolicyInForce',
    {
        'min_gain': float,
        'for': str,
        'every': str,
        'keep_windows': int,
        'stall_s': NotRequired[Optional[float]],
    },
)


class PowerLaw(TypedDict):
    """
    A power law of expert popularity.
    """

    exponent: float


class PredictorPoint(TypedDict):
    """
    One predictor of a family.
    """

    accuracy: float
    overhead_s: float


PresetName: TypeAlias = Literal['calibrated', 'paper']


class QuantizedParts(TypedDict):
    """
    Number formats of a checkpoint's weights, experts and the rest apart.
    """

    experts: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp8_block', 'nvfp4', 'mxfp4', 'int4', 'fp32']]
    rest: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp8_block', 'nvfp4', 'mxfp4', 'int4', 'fp32']]


class Rebalance(TypedDict):
    """
    How plans are renewed.
    """

    mode: NotRequired[Literal['startup_map', 'sync', 'async']]
    interval_steps: NotRequired[int]
    window_steps: NotRequired[int]


RebalanceModeName: TypeAlias = Literal['startup_map', 'sync', 'async']


class Reference(TypedDict):
    """
    A reference.
    """

    id: str
    description: str
    layer_latency_s: float


class ReportCeiling(TypedDict):
    """
    What no balancing can exceed.
    """

    expert_speedup_at_most: float
    expert_time_saved_at_most: float
    because: str


class Residual(TypedDict):
    """
    Why devices are still uneven under the plan: parts of max/mean − 1, mean over layers.
    """

    plan: float
    forecast_error: float
    sampling: float
    drift: float


ExpertShareItem: TypeAlias = float


ExpertShare: TypeAlias = list[ExpertShareItem]


class Routing(TypedDict):
    """
    What is known of the routing. Exactly one form: `skewness` (with or without
    `distribution_error` or `distribution_error_points`), `power_law`, `expert_shares`, `balancedness` with
    `at_devices`, `trace_id`, `trace_ids`, or `windows`.
    """

    skewness: NotRequired[float]
    distribution_error: NotRequired[float]
    distribution_error_points: NotRequired[list[ErrorPoint]]
    power_law: NotRequired[PowerLaw]
    expert_shares: NotRequired[list[ExpertShare]]
    balancedness: NotRequired[float]
    at_devices: NotRequired[int]
    trace_id: NotRequired[str]
    trace_ids: NotRequired[list[Union[str, PhaseTrace]]]
    windows: NotRequired[list[Union[str, PhaseTrace]]]
    train_fraction: NotRequired[float]
    holdout_trace_id: NotRequired[str]


class Server(TypedDict):
    """
    What a server gives its users; of a step of decode alone what its sequences get.
    """

    ttft_s: NotRequired[Optional[float]]
    tpot_s: NotRequired[Optional[float]]
    tokens_per_s_per_device: float
    devices_saved: NotRequired[Optional[Gain]]


Serving: TypeAlias = Union[AtTpot, Server]


class Skewness(TypedDict):
    """
    Expert skewness over layers.
    """

    mean: float
    max: float
    per_layer: list[float]


class Slots(TypedDict):
    """
    A plan with a number of slots.
    """

    plan: str
    extra_slots: int
    slots_per_device: int
    in_sample: Over
    held_out: Over
    expert_time_saved: float
    per_layer: list[float]


class SlotsTried(TypedDict):
    """
    One number of slots per device, with what it costs.
    """

    strategy: str
    slots_per_device: int
    redundant_experts: int
    layer_latency_s: float
    behind_best: float
    error_band: float
    fits: bool
    replica_bytes: float
    kv_tokens_lost_per_device: float
    moved_bytes: float
    first_stall_s: NotRequired[float]
    stall_s: float
    rebalance_s: float


SourceName: TypeAlias = Literal['stated', 'fitted', 'assumed']


class Speculative(TypedDict):
    """
    Speculative decoding, in decode and serving.
    """

    draft_tokens: int
    accepted: float
    draft_s: NotRequired[float]


StatusModel: TypeAlias = Literal['queued', 'running', 'succeeded', 'failed', 'canceled']


class StepLatency(TypedDict):
    """
    Step latency over replayed steps, seconds.
    """

    mean: float
    p50: float
    p95: float
    p99: float


class StepsOfPlan(TypedDict):
    """
    The steps under one plan.
    """

    mean: float
    p95: float


StrategyName: TypeAlias = Literal['none', 'replace_only', 'distribution_only', 'token_to_expert']


class Summary(TypedDict):
    """
    Mean, largest and per-layer values.
    """

    mean: float
    max: float
    per_layer: list[float]


class SweepAxis(TypedDict):
    """
    A quantity with the values it takes.
    """

    parameter: Literal['skewness', 'link_bandwidth_bytes_per_s', 'inter_node_bandwidth_bytes_per_s', 'tokens_per_step', 'output_tokens', 'devices', 'predictor_accuracy', 'predictor_overhead_s']
    values: list[float]


class SweepProvenance(TypedDict):
    """
    What a sweep rests on.
    """

    version: str
    catalog_digest: str
    method: MethodName
    preset: PresetName
    seed: int
    priced_cells: int
    draws: NotRequired[Optional[int]]


SweptParameterName: TypeAlias = Literal['skewness', 'link_bandwidth_bytes_per_s', 'inter_node_bandwidth_bytes_per_s', 'tokens_per_step', 'output_tokens', 'devices', 'predictor_accuracy', 'predictor_overhead_s']


class SweptPredictor(TypedDict):
    """
    The predictor that an axis of accuracy or overhead belongs to.
    """

    name: str
    accuracy: float
    overhead_s: float


class TermProvenance(TypedDict):
    """
    How far a term can be trusted.
    """

    basis: BasisName
    error_band: float


class Terms(TypedDict):
    """
    Where the time of a layer goes, seconds.
    """

    attention_s: float
    all_reduce_s: float
    router_s: float
    dispatch_s: float
    expert_ffn_s: float
    combine_s: float
    predictor_s: float
    rebalance_s: float
    overlap_hidden_s: float
    other_s: float


class TraceSummary(TypedDict):
    """
    Summary of an uploaded trace.
    """

    id: str
    name: NotRequired[Optional[str]]
    model: NotRequired[Optional[str]]
    tokens: NotRequired[Optional[int]]
    sequences: NotRequired[Optional[int]]
    steps: NotRequired[Optional[int]]
    layers: int
    experts: int
    top_k: NotRequired[Optional[int]]
    has_token_ids: bool
    has_embedding: bool
    skewness: Skewness
    distribution_error: NotRequired[Optional[float]]
    warnings: list[str]


class Transfer(TypedDict):
    """
    Plans × loads, where a question names several traces. A plan is loaded once: its latency
    holds no renewals.
    """

    trace_ids: list[str]
    slots_per_device: int
    replayed_steps: NotRequired[Optional[list[int]]]
    none: PlanOnLoads
    plans: list[PlanOnLoads]
    worst_case: PlanOnLoads


class UnreadableDevice(TypedDict):
    """
    A registered profile or model that this version cannot read.
    """

    id: str
    registered_at: str
    detail: str


VerdictName: TypeAlias = Literal['recommended', 'keep', 'tie', 'insufficient_evidence', 'cannot_run']


class Violation(TypedDict):
    """
    What is wrong with one place of a request, and how to mend it.
    """

    pointer: str
    rule: str
    detail: str


class Withdrawal(TypedDict):
    """
    What became of the asks that were to be withdrawn.
    """

    withdrawn: int
    canceled: int
    more: bool


class Workload(TypedDict):
    """
    What one step computes, or what a running server is asked to do.
    """

    phase: Literal['prefill', 'decode', 'serving']
    batch_size: NotRequired[int]
    sequence_length: NotRequired[int]
    kv_length: NotRequired[int]
    tokens_per_step: NotRequired[int]
    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]
    concurrency: NotRequired[int]
    max_batched_tokens: NotRequired[int]
    speculative: NotRequired[Speculative]
    dtype: NotRequired[Literal['bf16', 'fp16', 'fp8', 'fp8_block', 'nvfp4', 'mxfp4', 'int4', 'fp32']]
    dtypes: NotRequired[Dtypes]
    quantization: NotRequired[Union[Literal['bf16', 'fp16', 'fp8', 'fp8_block', 'nvfp4', 'mxfp4', 'int4', 'fp32'], QuantizedParts]]


class AnsweredAxis(TypedDict):
    """
    An axis as it was swept.
    """

    parameter: SweptParameterName
    values: list[float]


class Choice(TypedDict):
    """
    What is advised.
    """

    strategy: NotRequired[Optional[StrategyName]]
    predictor: NotRequired[Optional[str]]
    verdict: VerdictName
    gain: NotRequired[Optional[Gain]]
    reason: str


class Cluster(TypedDict):
    """
    Devices and links.
    """

    device: Union[str, dict[str, Any]]
    devices: int
    link: NotRequired[Union[str, LinkNumbers]]
    nodes: NotRequired[int]
    devices_per_nvlink_domain: NotRequired[int]
    inter_node_link: NotRequired[Union[str, LinkNumbers]]


class ComparedChoice(TypedDict):
    """
    What two recommendations advise.
    """

    a: Choice
    b: Choice


class ComparedStrategy(TypedDict):
    """
    A strategy in both recommendations.
    """

    strategy: StrategyName
    predictor: NotRequired[Optional[str]]
    layer_latency_s: ComparedNumber
    model_latency_s: ComparedNumber
    speedup_over_none: ComparedNumber
    terms: dict[str, ComparedNumber]


class Comparison(TypedDict):
    """
    Two recommendations side by side.
    """

    a: str
    b: str
    choice_differs: bool
    choice: ComparedChoice
    question: list[Difference]
    provenance: list[Difference]
    strategies: list[ComparedStrategy]


class Device(TypedDict):
    """
    One device of the catalog.
    """

    id: str
    name: str
    memory_bytes: float
    bandwidth_bytes_per_s: float
    peak_flop_per_s: PeakRates
    multiprocessors: int
    l2_bytes: float
    eager_launch_s: float
    stacks: list[dict[str, Any]]
    constants: dict[str, Any]
    registered_at: NotRequired[Optional[str]]
    sources: dict[str, str]


class DeviceImbalance(TypedDict):
    """
    Device imbalance before and after, in the conventions engines use.
    """

    before: Summary
    after: NotRequired[Optional[Summary]]
    balancedness_before: float
    balancedness_after: NotRequired[Optional[float]]
    residual: NotRequired[Optional[Residual]]
    range_over_orders: NotRequired[Optional[list[float]]]


class DeviceList(TypedDict):
    """
    All devices of the catalog.
    """

    items: list[Device]
    unreadable: NotRequired[list[UnreadableDevice]]


class DuplicationSearch(TypedDict):
    """
    The search for the number of slots per device (only where `duplication.slots_per_device`
    was left out).
    """

    slots: list[SlotsTried]
    best_slots_per_device: int
    chosen_slots_per_device: int
    because: str


class FlipPoint(TypedDict):
    """
    Where the recommended strategy changes.
    """

    parameter: FlipParameterName
    value: NotRequired[Optional[float]]
    interval: NotRequired[Optional[list[float]]]
    becomes: NotRequired[Optional[StrategyName]]
    range: NotRequired[Optional[list[float]]]
    communication: NotRequired[Optional[CommunicationName]]
    copies: NotRequired[Optional[CopiesName]]


class Forecast(TypedDict):
    """
    One forecast's errors.
    """

    kind: str
    window_steps: NotRequired[Optional[int]]
    half_life_steps: NotRequired[Optional[float]]
    errors: list[Lag]


class IntervalSearch(TypedDict):
    """
    The search for the interval of renewal (only where `rebalance.interval_steps` was left
    out and plans are renewed at all).
    """

    intervals: list[IntervalTried]
    replayed_steps: int
    chosen_interval_steps: int
    because: str


class Judgement(TypedDict):
    """
    One judgement: what an ordinary recommendation says of the map in force.
    """

    id: str
    in_order_id: NotRequired[Optional[str]]
    version: int
    judged_at: str
    loads_until: str
    windows: int
    status: StatusModel
    finding: NotRequired[Optional[Literal['Keep', 'ReplanPays', 'StrategyChanged', 'BalancingNoLongerPays']]]
    verdict: NotRequired[Optional[VerdictName]]
    strategy: NotRequired[Optional[StrategyName]]
    gain: NotRequired[Optional[Gain]]
    stall_s: NotRequired[Optional[float]]
    net_gain: NotRequired[Optional[Gain]]
    imbalance: NotRequired[Optional[float]]
    advice_current: NotRequired[Optional[Literal['True', 'False', 'Unknown']]]
    message: str


class JudgementPage(TypedDict):
    """
    One page of judgements, newest first.
    """

    items: list[Judgement]
    next_cursor: NotRequired[Optional[str]]


class Launch(TypedDict):
    """
    How to start an engine so that it follows a recommendation.
    """

    engine: EngineName
    strategy: StrategyName
    verdict: VerdictName
    argv: list[str]
    shell: str
    env: dict[str, str]
    yaml: NotRequired[Optional[str]]
    placement: NotRequired[Optional[MountedPlacement]]
    notes: list[str]


class MapInForce(TypedDict):
    """
    The map in force.
    """

    strategy: NotRequired[Optional[StrategyName]]
    slots_per_device: NotRequired[Optional[int]]
    physical_to_logical: NotRequired[Optional[list[list[int]]]]


class MeasuredOutcome(TypedDict):
    """
    What was measured, beside what was forecast.
    """

    strategy: StrategyName
    tpot_s: NotRequired[Optional[float]]
    step_s: NotRequired[Optional[float]]
    forecast_s: NotRequired[Optional[float]]
    forecast_error: NotRequired[Optional[float]]
    steps: NotRequired[Optional[int]]
    note: NotRequired[Optional[str]]
    principal: NotRequired[Optional[str]]
    created_at: str


class Model(TypedDict):
    """
    One model of the catalog.
    """

    id: str
    name: str
    family: str
    hidden_size: int
    vocabulary_size: int
    tied_embeddings: bool
    layers: int
    moe_layers: int
    dense_layers: int
    dense_intermediate_size: int
    cross_attention_layers: int
    attention: Attention
    experts: Experts
    kv_elements_per_token_and_layer: int
    kv_bytes_per_token: float
    index_bytes_per_token: float
    state_bytes_per_sequence: float
    not_priced: list[str]
    parameters: Parameters
    config: dict[str, Any]
    registered_at: NotRequired[Optional[str]]
    sources: dict[str, str]


class ModelList(TypedDict):
    """
    All models of the catalog.
    """

    items: list[Model]
    unreadable: NotRequired[list[UnreadableDevice]]


class Option(TypedDict):
    """
    An option of an engine under the recommended strategy.
    """

    id: str
    value: str
    mode: NotRequired[Optional[str]]
    description: str
    engine_support: list[OptionSupport]
    price: NotRequired[Optional[OptionPrice]]
    not_priced_reason: NotRequired[Optional[str]]


class Placement(TypedDict):
    """
    The plan of a recommendation, layer by layer.
    """

    format: str
    strategy: StrategyName
    verdict: NotRequired[VerdictName]
    engine: NotRequired[Optional[EngineName]]
    n_logical_experts: int
    n_physical_experts: int
    devices: int
    slots_per_device: int
    layers_are_exact: bool
    expert_ids_are_real: bool
    n_model_layers: int
    engines: list[EnginePlan]
    layers: list[PlacementLayer]


PlacementFile: TypeAlias = Union[Placement, PlacementFile1, PlacementFile2]


class Plan(TypedDict):
    """
    The plan of the recommended strategy.
    """

    slots_per_device: int
    redundant_experts: int
    layer_latency_s: float
    rebalance_mode: RebalanceModeName
    interval_steps: int
    first_stall_s: NotRequired[float]
    stall_s: NotRequired[float]
    move_s: NotRequired[Optional[float]]
    break_even_steps: NotRequired[Optional[float]]
    moved_experts: int
    in_sample_imbalance: NotRequired[Optional[Summary]]
    held_out_imbalance: NotRequired[Optional[Summary]]
    memory: Memory


class Predictor(TypedDict):
    """
    A predictor: a stated point, a curve of points, or one to fit on the trace.
    """

    name: NotRequired[str]
    accuracy: NotRequired[float]
    accuracy_points: NotRequired[list[AccuracyPoint]]
    metric: NotRequired[Literal['per_choice', 'exact_set', 'top1']]
    overhead_s: NotRequired[float]
    points: NotRequired[list[PredictorPoint]]
    fit: NotRequired[Literal['most_frequent', 'by_token', 'by_position', 'ffn', 'lstm']]


class PricedPredictor(TypedDict):
    """
    A predictor as priced.
    """

    name: str
    kind: NotRequired[Optional[str]]
    accuracy: float
    accuracy_per_layer: NotRequired[Optional[list[float]]]
    overhead_s: float
    source: SourceName
    fit: NotRequired[Optional[Curve]]


class Problem(TypedDict):
    """
    What went wrong, for programs (`type`) and for people (`detail`).
    """

    type: str
    title: str
    status: int
    detail: str
    instance: NotRequired[Optional[str]]
    request_id: NotRequired[Optional[str]]
    violations: NotRequired[list[Violation]]


class Provenance(TypedDict):
    """
    Where an answer comes from.
    """

    version: str
    catalog_digest: str
    seed: int
    method: MethodName
    assumptions: dict[str, Any]
    system: dict[str, Any]
    model: ModelProvenance
    terms: dict[str, TermProvenance]
    ignored_model_fields: list[str]
    trace_ids: list[str]


class Question(TypedDict):
    """
    Which predictor strategy, if any, makes this deployment faster?
    """

    model: Union[str, dict[str, Any]]
    cluster: Cluster
    parallelism: NotRequired[Parallelism]
    workload: Workload
    engine: NotRequired[Engine]
    routing: Routing
    predictors: NotRequired[list[Predictor]]
    method: NotRequired[Literal['analytic', 'simulated']]
    duplication: NotRequired[Duplication]
    rebalance: NotRequired[Rebalance]
    current: NotRequired[Current]
    allowed_strategies: NotRequired[list[Literal['none', 'replace_only', 'distribution_only', 'token_to_expert']]]
    objective: NotRequired[Literal['step_latency', 'throughput_at_tpot']]
    flip_points: NotRequired[bool]
    measured_layer: NotRequired[MeasuredLayer]
    measured_step_s: NotRequired[float]
    step_overhead_s: NotRequired[float]
    assumptions: NotRequired[Assumptions]
    seed: NotRequired[int]
    labels: NotRequired[dict[str, str]]


class Recommendation(TypedDict):
    """
    What to run.
    """

    strategy: NotRequired[Optional[StrategyName]]
    predictor: NotRequired[Optional[PricedPredictor]]
    verdict: VerdictName
    baseline: NotRequired[BaselineName]
    gain: NotRequired[Optional[Gain]]
    runner_up_gain: NotRequired[Optional[Gain]]
    equivalent: NotRequired[list[StrategyName]]
    doubts: NotRequired[list[Doubt]]
    speedup_over_none: NotRequired[Optional[float]]
    speedup_over_current: NotRequired[Optional[float]]
    margin_over_runner_up: NotRequired[Optional[float]]
    margin_error_band: NotRequired[Optional[float]]
    runner_up: NotRequired[Optional[StrategyName]]
    best_runnable: NotRequired[Optional[StrategyName]]
    missing: list[str]
    reason: str


class RecommendationItem(TypedDict):
    """
    What a listing shows of a recommendation.
    """

    id: str
    status: StatusModel
    principal: NotRequired[Optional[str]]
    labels: Labels
    created_at: str
    finished_at: NotRequired[Optional[str]]
    model: str
    device: str
    devices: NotRequired[Optional[int]]
    engine: NotRequired[Optional[EngineName]]
    workload: NotRequired[Optional[Workload]]
    verdict: NotRequired[Optional[VerdictName]]
    gain: NotRequired[Optional[Gain]]
    trace_ids: list[str]
    recommendation: NotRequired[Optional[Recommendation]]
    outcomes: NotRequired[list[MeasuredOutcome]]


class RecommendationPage(TypedDict):
    """
    One page, newest first.
    """

    items: list[RecommendationItem]
    next_cursor: NotRequired[Optional[str]]


class RoutingBehind(TypedDict):
    """
    The routing behind an answer.
    """

    skewness: NotRequired[Optional[Summary]]
    distribution_error: NotRequired[Optional[float]]
    device_imbalance: NotRequired[Optional[DeviceImbalance]]
    busiest_layer: NotRequired[Optional[BusiestLayer]]


class Steps(TypedDict):
    """
    How uneven single steps are.
    """

    tokens_per_step: NotRequired[Optional[int]]
    recorded_steps_per_step: NotRequired[Optional[int]]
    steps: int
    plans: list[StepsOfPlan]


class Strategy(TypedDict):
    """
    A strategy with its price.
    """

    strategy: StrategyName
    predictor: NotRequired[Optional[PricedPredictor]]
    feasible: bool
    infeasible_reason: NotRequired[Optional[str]]
    engine_support: list[EngineSupport]
    layer_latency_s: NotRequired[Optional[float]]
    model_latency_s: NotRequired[Optional[float]]
    speedup_over_none: NotRequired[Optional[float]]
    gain: NotRequired[Optional[Gain]]
    terms: NotRequired[Optional[Terms]]
    serving: NotRequired[Optional[Serving]]
    phases: NotRequired[list[Phase]]
    step_latency_s: NotRequired[Optional[StepLatency]]
    speedup_interval_95: NotRequired[Optional[list[float]]]
    imbalance_before: NotRequired[Optional[list[float]]]
    imbalance_after: NotRequired[Optional[list[float]]]
    moved_bytes: NotRequired[Optional[float]]
    replica_bytes: NotRequired[Optional[float]]
    kv_tokens_lost_per_device: NotRequired[Optional[float]]


class SweepAnswer(TypedDict):
    """
    Who wins where. Every matrix has a row per value of the first axis and in it a column per
    value of the second; with one axis it is one row, with a column per value.
    """

    axes: list[AnsweredAxis]
    winner: list[list[Optional[StrategyName]]]
    winner_runnable: list[list[Optional[StrategyName]]]
    margin_over_runner_up: list[list[float]]
    tie: list[list[bool]]
    layer_latency_s: LatencyMatrices
    predictor: NotRequired[Optional[SweptPredictor]]
    warnings: list[str]
    provenance: SweepProvenance


class SweepRequest(TypedDict):
    """
    Which strategy wins over a grid of one or two quantities?
    """

    question: Question
    axes: list[SweepAxis]


class TracePage(TypedDict):
    """
    One page of traces.
    """

    items: list[TraceSummary]
    next_cursor: NotRequired[Optional[str]]


class TraceReport(TypedDict):
    """
    Ceiling and diagnosis of a trace on a number of devices.
    """

    id: str
    name: NotRequired[Optional[str]]
    devices: int
    experts: int
    top_k: NotRequired[Optional[int]]
    tokens: NotRequired[Optional[int]]
    layers: list[int]
    finding: str
    imbalance: Imbalance
    ceiling: ReportCeiling
    slots: list[Slots]
    steps: NotRequired[Optional[Steps]]
    drift: NotRequired[Optional[Drift]]
    forecasts: list[Forecast]
    expert_shares: list[list[float]]
    warnings: list[str]


class DeployedQuestion(TypedDict):
    """
    A question without its routing
    """

    model: Union[str, dict[str, Any]]
    cluster: Cluster
    parallelism: NotRequired[Parallelism]
    workload: Workload
    engine: NotRequired[Engine]
    predictors: NotRequired[list[Predictor]]
    method: NotRequired[Literal['analytic', 'simulated']]
    duplication: NotRequired[Duplication]
    rebalance: NotRequired[Rebalance]
    allowed_strategies: NotRequired[list[Literal['none', 'replace_only', 'distribution_only', 'token_to_expert']]]
    objective: NotRequired[Literal['step_latency', 'throughput_at_tpot']]
    flip_points: NotRequired[bool]
    measured_layer: NotRequired[MeasuredLayer]
    measured_step_s: NotRequired[float]
    step_overhead_s: NotRequired[float]
    assumptions: NotRequired[Assumptions]
    seed: NotRequired[int]


class DeploymentItem(TypedDict):
    """
    What a list shows of a deployment.
    """

    name: str
    version: int
    principal: NotRequired[Optional[str]]
    created_at: str
    updated_at: str
    labels: Labels
    last_judgement: NotRequired[Optional[Judgement]]
    conditions: list[Condition]


class DeploymentList(TypedDict):
    """
    All deployments by name.
    """

    items: list[DeploymentItem]


class DeploymentRequest(TypedDict):
    """
    What a deployment is: a question without its routing, and when a change is to be said.
    """

    question: DeployedQuestion
    labels: NotRequired[dict[str, str]]
    current: NotRequired[Current]
    policy: NotRequired[Policy]


class DeploymentSpec(TypedDict):
    """
    What a deployment was told to be.
    """

    question: dict[str, Any]
    labels: Labels
    policy: PolicyInForce
    current: NotRequired[Optional[MapInForce]]


class Result(TypedDict):
    """
    The result of a recommendation.
    """

    recommendation: Recommendation
    strategies: list[Strategy]
    references: list[Reference]
    layouts: NotRequired[list[Layout]]
    options: NotRequired[list[Option]]
    ceiling: Ceiling
    flip_points: list[FlipPoint]
    routing: RoutingBehind
    plan: NotRequired[Optional[Plan]]
    duplication_search: NotRequired[Optional[DuplicationSearch]]
    interval_search: NotRequired[Optional[IntervalSearch]]
    transfer: NotRequired[Optional[Transfer]]
    confirm: str
    warnings: list[str]
    provenance: Provenance


class Deployment(TypedDict):
    """
    A deployment that is watched.
    """

    name: str
    version: int
    principal: NotRequired[Optional[str]]
    created_at: str
    updated_at: str
    spec: DeploymentSpec
    windows: list[LoadsWindow]
    judging: NotRequired[Optional[str]]
    last_judgement: NotRequired[Optional[Judgement]]
    conditions: list[Condition]


class RecommendationJob(TypedDict):
    """
    A recommendation: the job and, when it has finished, the result.
    """

    id: str
    status: StatusModel
    labels: NotRequired[Optional[Labels]]
    created_at: str
    started_at: NotRequired[Optional[str]]
    finished_at: NotRequired[Optional[str]]
    progress: NotRequired[Optional[float]]
    phase: NotRequired[Optional[str]]
    request: Question
    result: NotRequired[Optional[Result]]
    error: NotRequired[Optional[Problem]]
    outcomes: NotRequired[list[MeasuredOutcome]]
