"""How long calls take on a device: replayed CUDA graphs over rotating buffers, median of many."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

Call = Callable[[], object]

# Rotating buffers hold so many times the cache together that none is found in it again.
CACHE_FILLS = 4
MOST_SETS = 24
# A graph holds at least so many calls, so that the start of a replay is spread over them.
CALLS_OF_A_GRAPH = 16
# A call of this length needs no companions in its graph.
LONG_CALL_S = 1e-3


@dataclass(frozen=True)
class Effort:
    """How many replays a median is taken of."""

    seconds: float = 0.08
    least: int = 5
    most: int = 100


def alone(value: float) -> float:
    """What one process agrees on with itself."""
    return value


@dataclass
class Machine:
    """The device that is measured, and how."""

    device: torch.device
    dtype: torch.dtype = torch.bfloat16
    tiny: bool = False
    effort: Effort = field(default_factory=Effort)
    # With several processes: the same number for all of them, so that all replay equally often.
    agree: Callable[[float], float] = alone

    @staticmethod
    def here(tiny: bool, index: int = 0) -> "Machine":
        """The GPU of that index, or the processor where there is none."""
        if torch.cuda.is_available():
            torch.cuda.set_device(index)
            return Machine(torch.device("cuda", index), tiny=tiny)
        # Few threads of a processor compute 16 bits at all well; shapes are what is tried there.
        return Machine(torch.device("cpu"), torch.float32, tiny, Effort(0.002, 2, 3))

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.on_gpu else "processor"

    def sets(self, size: float) -> int:
        """Sets of buffers of `size` bytes that do not fit in the cache together."""
        if not self.on_gpu:
            return 1
        cache = torch.cuda.get_device_properties(self.device).L2_cache_size
        return int(min(MOST_SETS, max(1, -(-CACHE_FILLS * cache // max(size, 1)))))

    def random(self, *shape: int) -> torch.Tensor:
        """Random numbers: products of zeros draw less power and are faster than real ones."""
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def weights(self, *shape: int) -> torch.Tensor:
        """Random numbers that keep sums over the last but one dimension near one."""
        return self.random(*shape).mul_(shape[-2] ** -0.5)

    def element_bytes(self) -> int:
        return torch.empty((), dtype=self.dtype).element_size()

    def seconds(self, calls: Sequence[Call]) -> float:
        """The time of one call, on the device, without the host's launch."""
        with torch.inference_mode():
            return self._replayed(calls) if self.on_gpu else self._on_processor(calls)

    def _repeats(self, once: float) -> int:
        once = self.agree(once)
        return int(min(self.effort.most, max(self.effort.least, self.effort.seconds / max(once, 1e-9))))

    def _on_processor(self, calls: Sequence[Call]) -> float:
        def run() -> float:
            began = time.perf_counter()
            for call in calls:
                call()
            return time.perf_counter() - began

        run()
        return statistics.median(run() for _ in range(self._repeats(run()))) / len(calls)

    def _replayed(self, calls: Sequence[Call]) -> float:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for call in calls:
                call()
            once = self.agree(_between(calls[0]))
        torch.cuda.current_stream().wait_stream(beside)
        rounds = 1 if once > LONG_CALL_S else -(-CALLS_OF_A_GRAPH // len(calls))
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as that which watches over NCCL, go on while a graph is captured.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for _ in range(rounds):
                for call in calls:
                    call()
        graph.replay()
        repeats = self._repeats(_between(graph.replay))
        times = statistics.median(_between(graph.replay) for _ in range(repeats))
        del graph
        return times / (rounds * len(calls))


# Makes a call from a batch and the new tokens of each of its sequences.
Build = Callable[[Machine, int, int], Call]


def _between(call: Call) -> float:
    """The time of a call by events on the current stream."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) * 1e-3
