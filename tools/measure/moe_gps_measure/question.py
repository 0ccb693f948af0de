"""The shapes that a question asks about: its model, how it is spread, and how many tokens a step has."""

import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


# The number format of 8-bit weights with a scale for every block, and formats of 16 bits, as questions name them.
BLOCKED = "fp8_block"
SIXTEEN = ("bf16", "fp16")


@dataclass(frozen=True)
class Latent:
    """Widths of latent attention."""

    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True)
class Model:
    """The widths of a layer."""

    name: str
    hidden: int
    q_heads: int
    kv_heads: int
    head_dim: int
    experts: int
    top_k: int
    intermediate: int
    shared_intermediate: int
    latent: Latent | None


@dataclass(frozen=True)
class Question:
    """What is measured for."""

    model: Model
    devices: int
    attention_tensor: int
    attention_data: int
    expert_parallel: int
    prefill: bool
    sequences: int
    length: int
    # Number formats of the routed experts and of all other weights.
    experts_format: str = SIXTEEN[0]
    rest_format: str = SIXTEEN[0]
    # What the question says of the routing.
    routing: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of a step over all devices."""
        return self.sequences * (self.length if self.prefill else 1)

    @property
    def local_experts(self) -> int:
        return max(1, self.model.experts // self.expert_parallel)


def catalog_config(model: str) -> dict[str, Any]:
    """The configuration of a catalog model, from the `catalog` folder above this file or the working folder."""
    for folder in (*Path(__file__).resolve().parents, Path.cwd()):
        file = folder / "catalog" / "models" / f"{model}.toml"
        if file.is_file():
            return tomllib.loads(file.read_text())["config"]
    raise SystemExit(
        f"/model: no file catalog/models/{model}.toml is found above this package or in the working folder; "
        "give the fields of the model's config.json as `model`, or run from a checkout of moe-gps"
    )


def _first(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        if config.get(name) is not None:
            return int(config[name])
    if default is None:
        raise SystemExit(f"/model: none of {', '.join(names)} is in the configuration")
    return default


def model_of(given: str | dict[str, Any]) -> Model:
    """A model by catalog id or by the fields of its config.json, which may stand under `config`."""
    name = given if isinstance(given, str) else str(given.get("name", given.get("model_type", "model")))
    config = catalog_config(given) if isinstance(given, str) else given.get("config", given)
    config = config.get("text_config", config)
    hidden = _first(config, "hidden_size", "d_model")
    heads = _first(config, "num_attention_heads", "num_heads")
    intermediate = _first(config, "moe_intermediate_size", "intermediate_size_mlp", "intermediate_size", "d_ff")
    rank = config.get("kv_lora_rank")
    latent = None
    if rank:
        latent = Latent(int(rank), *(_first(config, name) for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")))
    shared = _first(config, "n_shared_experts", default=0) * intermediate
    return Model(
        name=name,
        hidden=hidden,
        q_heads=heads,
        kv_heads=_first(config, "num_key_value_heads", default=heads),
        head_dim=_first(config, "head_dim", "d_kv", default=hidden // heads),
        experts=_first(config, "num_local_experts", "num_experts", "n_routed_experts"),
        top_k=_first(config, "num_experts_per_tok", "num_selected_experts", default=1),
        intermediate=intermediate,
        shared_intermediate=_first(config, "shared_expert_intermediate_size", default=shared),
        latent=latent,
    )


def read(path: Path) -> Question:
    """A question as it is posted to moe-gps; what is left out is as the engine would spread the model."""
    return parse(json.loads(path.read_text()))


def formats(work: dict[str, Any]) -> tuple[str, str]:
    """Number formats of the routed experts and of the rest: the checkpoint's, else that of weights, else of everything."""
    weights = (work.get("dtypes") or {}).get("weights") or work.get("dtype") or SIXTEEN[0]
    stored = work.get("quantization") or {}
    if isinstance(stored, str):
        return stored, stored
    return stored.get("experts") or weights, stored.get("rest") or weights


def parse(asked: dict[str, Any]) -> Question:
    model = model_of(asked["model"])
    devices = int(asked["cluster"]["devices"])
    spread = asked.get("parallelism", {})
    data = int(spread.get("attention_data", 1))
    tensor = int(spread.get("attention_tensor", max(1, devices // data)))
    work = asked["workload"]
    if work["phase"] == "serving":
        work = {"phase": "decode", "batch_size": work.get("concurrency", 64), "kv_length": work.get("input_tokens", 1024)}
    prefill = work["phase"] == "prefill"
    length = int(work.get("sequence_length" if prefill else "kv_length", 1024))
    batch = work.get("batch_size") or max(1, int(work["tokens_per_step"]) // (length if prefill else 1))
    return Question(
        model, devices, tensor, data, int(spread.get("expert_parallel", devices)), prefill, int(batch), length,
        *formats(asked["workload"]), asked.get("routing") or {},
    )  # fmt: skip


def tiny(question: Question) -> Question:
    """The same kind of question with shapes that a processor measures at once."""
    model, latent = question.model, question.model.latent
    small = Model(
        name=f"tiny-{model.name}", hidden=64, q_heads=4, kv_heads=2, head_dim=16, experts=8, top_k=2, intermediate=32,
        shared_intermediate=32 if model.shared_intermediate else 0, latent=latent and Latent(16, 8, 8, 8),
    )  # fmt: skip
    return replace(
        question, model=small, devices=2, attention_tensor=2, attention_data=1, expert_parallel=2, sequences=2, length=16
    )
