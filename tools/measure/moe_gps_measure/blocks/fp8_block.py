"""Products in 8 bits, weights scaled in blocks of 128 x 128 and tokens in blocks of 128, as DeepSeek-V3 is published.

PyTorch groups no such products, so one Triton kernel does: Triton comes with PyTorch's builds for GPUs. Elsewhere
experts are computed one after another from the same numbers.
"""

from collections.abc import Callable, Sequence

import torch

from moe_gps_measure.timing import Machine

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

FORMAT = torch.float8_e4m3fn
# GPUs of this compute capability and later multiply 8-bit floats.
CAPABILITY = (8, 9)
# Numbers that share a scale, and columns of a tile.
BLOCK = 128
# Heights of a tile, with the warps and the stages of its pipeline; the least that holds the mean load of an expert is taken.
SCHEDULE = {16: (4, 4), 32: (4, 4), 64: (4, 4), 128: (8, 4)}
# Row tiles that walk over the columns together, so that weights are found in the cache; rows that a program quantises.
TOGETHER, AT_ONCE = 16, 16


def _spread(scales: torch.Tensor, *shape: int) -> torch.Tensor:
    """Every scale of two dimensions as often as its block has numbers."""
    rows, columns = shape
    return scales.repeat_interleave(BLOCK, -2)[..., :rows, :].repeat_interleave(BLOCK, -1)[..., :columns]


def quantised_weights(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Experts x outputs x inputs in 8 bits, and the scale of every block."""
    experts, rows, columns = weights.shape
    up, left = -rows % BLOCK, -columns % BLOCK
    padded = torch.nn.functional.pad(weights.float(), (0, left, 0, up))
    blocks = padded.view(experts, (rows + up) // BLOCK, BLOCK, (columns + left) // BLOCK, BLOCK)
    scales = blocks.abs().amax((2, 4)).clamp(min=1e-10) / torch.finfo(FORMAT).max
    return (weights / _spread(scales, rows, columns)).to(FORMAT).contiguous(), scales


if triton:

    @triton.jit
    def _quantise(values, small, scales, blocks, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr):
        block = tl.program_id(0) * AT_ONCE + tl.arange(0, AT_ONCE)
        at, inside = block[:, None].to(tl.int64) * BLOCK + tl.arange(0, BLOCK)[None, :], block < blocks
        found = tl.load(values + at, mask=inside[:, None], other=0.0).to(tl.float32)
        # 448 is the largest number of the format.
        scale = tl.maximum(tl.max(tl.abs(found), axis=1), 1e-10) / 448.0
        tl.store(small + at, (found / scale[:, None]).to(small.dtype.element_ty), mask=inside[:, None])
        tl.store(scales + block, scale, mask=inside)

    @triton.jit
    def _product(
        rows, row_scales, weights, weight_scales, out, tile_experts, tile_firsts, tile_lasts, tiles,
        width: tl.constexpr, depth: tl.constexpr, HEIGHT: tl.constexpr, BLOCK: tl.constexpr, TOGETHER: tl.constexpr,
    ):  # fmt: skip
        columns: tl.constexpr = (width + BLOCK - 1) // BLOCK
        band = tl.program_id(0) // (TOGETHER * columns)
        within, high = tl.program_id(0) % (TOGETHER * columns), tl.minimum(tiles - band * TOGETHER, TOGETHER)
        tile, column = band * TOGETHER + within % high, within // high
        expert = tl.load(tile_experts + tile).to(tl.int64)
        row = tl.load(tile_firsts + tile) + tl.arange(0, HEIGHT)
        inside, depths = row < tl.load(tile_lasts + tile), tl.arange(0, BLOCK)
        outputs, row = column * BLOCK + tl.arange(0, BLOCK), row.to(tl.int64)
        row_at = rows + row[:, None] * depth + depths[None, :]
        weight_at = weights + expert * width * depth + outputs[None, :] * depth + depths[:, None]
        row_scale_at = row_scales + row * (depth // BLOCK)
        weight_scale_at = weight_scales + (expert * columns + column) * (depth // BLOCK)
        total = tl.zeros((HEIGHT, BLOCK), dtype=tl.float32)
        for step in range(0, depth // BLOCK):
            left = tl.load(row_at + step * BLOCK, mask=inside[:, None], other=0.0)
            right = tl.load(weight_at + step * BLOCK, mask=outputs[None, :] < width, other=0.0)
            scale = tl.load(row_scale_at + step, mask=inside, other=0.0) * tl.load(weight_scale_at + step)
            total += tl.dot(left, right) * scale[:, None]
        at = out + row[:, None] * width + outputs[None, :]
        tl.store(at, total.to(out.dtype.element_ty), mask=inside[:, None] & (outputs[None, :] < width))


def quantised_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in 8 bits, and the scale of every block, by the kernel."""
    small, blocks = torch.empty_like(rows, dtype=FORMAT), rows.numel() // BLOCK
    scales = torch.empty(rows.shape[0], rows.shape[1] // BLOCK, device=rows.device)
    _quantise[(-(-blocks // AT_ONCE),)](rows, small, scales, blocks, BLOCK, AT_ONCE)
    return small, scales


class Tiles:
    """Which rows of which expert every tile has."""

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        active = sum(count > 0 for count in counts)
        mean = sum(counts) / max(1, active)
        self.height = next((height for height in SCHEDULE if mean <= height), max(SCHEDULE))
        found, first = [], 0
        for expert, count in enumerate(counts):
            found += [(expert, at, first + count) for at in range(first, first + count, self.height)]
            first += count
        self.number = len(found)
        self.map = torch.tensor(found, dtype=torch.int32).view(-1, 3).t().contiguous().to(device)


def product(rows: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor, tiles: Tiles) -> torch.Tensor:
    """Every row by the weights of its expert, by the kernel."""
    small, row_scales = quantised_rows(rows)
    width, depth = weights.shape[1:]
    out = torch.empty(rows.shape[0], width, dtype=rows.dtype, device=rows.device)
    if tiles.number:
        warps, stages = SCHEDULE[tiles.height]
        _product[(tiles.number * -(-width // BLOCK),)](
            small, row_scales, weights, scales, out, *tiles.map, tiles.number, width, depth,
            tiles.height, BLOCK, TOGETHER, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out


class Product:
    """The 8-bit weights of some experts, or of one matrix; rows are quantised in front of it."""

    def __init__(self, machine: Machine, depth: int, width: int, counts: Sequence[int], looped: bool) -> None:
        if not looped and (triton is None or depth % BLOCK):
            raise ValueError(f"products over {depth} numbers in fp8_block: Triton and a multiple of {BLOCK} are needed")
        if machine.on_gpu and torch.cuda.get_device_capability(machine.device) < CAPABILITY:
            raise ValueError("fp8_block: this GPU does not multiply 8-bit floats")
        self.counts, self.looped = list(counts), looped
        self.weights, self.scales = quantised_weights(machine.weights(len(counts), depth, width).transpose(1, 2))
        self.tiles = Tiles(counts, machine.device)

    def exact(self) -> torch.Tensor:
        """The weights as their scales say."""
        return self.weights.float() * _spread(self.scales, *self.weights.shape[1:])

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if not self.looped:
            return product(rows, self.weights, self.scales, self.tiles)
        parts = zip(rows.split(self.counts), self.exact().to(rows.dtype), strict=True)
        return torch.cat([part @ each.t() for part, each in parts])


class BlockExperts:
    """Experts in 8 bits and the buffers of their tokens."""

    def __init__(self, machine: Machine, hidden: int, intermediate: int, counts: Sequence[int], looped: bool) -> None:
        self.up = Product(machine, hidden, 2 * intermediate, counts, looped)
        self.down = Product(machine, intermediate, hidden, counts, looped)
        self.tokens = machine.random(sum(counts), hidden)

    def __call__(self) -> torch.Tensor:
        gate, up = self.up(self.tokens).chunk(2, dim=-1)
        return self.down(torch.nn.functional.silu(gate) * up)


def dense(machine: Machine, rows: int, depth: int, width: int, blocked: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """A product of so many rows with weights of its own, in 8 bits by blocks or in those of the machine."""
    if blocked:
        return Product(machine, depth, width, [rows], not machine.on_gpu)
    weights = machine.weights(depth, width)
    return lambda left: left @ weights
