"""The choice of the best tokens by sparse attention's index in one kernel, timed on the GPU at hand: a table.

    python tools/measure/sparse_index.py > sparse_index.csv

`crates/core/src/cost/selection.rs` has the law and these measurements; PyTorch's own kernels are timed beside it.
"""

import torch
from moe_gps_measure.timing import Machine
from torch.cuda import _compile_kernel

CHOSEN = 2048
KEPT = (2048, 4096, 8192, 32768, 131072)
ROWS = (1, 8, 32, 64, 128, 256, 2048, 8192)
MOST_SCORES = 1 << 26
THREADS = 1024
BUFFERS = 4

# A block takes a row. It counts the leading 12 bits of the scores, reads them again to write those above the edge, and
# settles those on it by two digits of 10 bits. Scores on the edge beyond what is kept for them are left out.
SOURCE = r"""
__device__ __forceinline__ unsigned key(float x) {
  unsigned bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Puts into *edge the bin that holds the need-th of all, counted from the last bin, and into *rest what is needed of it.
template <int BINS> __device__ void find(const unsigned* count, int need, int* edge, int* rest) {
  __shared__ unsigned of_warp[32];
  const int t = threadIdx.x, lane = t & 31, warp = t >> 5, each = BINS / 1024;
  unsigned own = 0;
  for (int i = 0; i < each; i++) own += count[t * each + i];
  unsigned upward = own;
  for (int d = 1; d < 32; d <<= 1) {
    unsigned other = __shfl_down_sync(~0u, upward, d);
    if (lane + d < 32) upward += other;
  }
  if (lane == 0) of_warp[warp] = upward;
  __syncthreads();
  unsigned above = upward - own;
  for (int i = warp + 1; i < 32; i++) above += of_warp[i];
  for (int i = each - 1; i >= 0; i--) {
    unsigned here = count[t * each + i];
    if ((int)above < need && (int)(above + here) >= need) { *edge = t * each + i; *rest = need - above; }
    above += here;
  }
  __syncthreads();
}

extern "C" __global__ void choose(const float* scores, int* ids, int kept, int chosen) {
  const int MOST = 6144, t = threadIdx.x, n = blockDim.x;
  extern __shared__ unsigned count[];
  int* on_edge = (int*)(count + 4096);
  __shared__ int n_out, n_edge, edge, rest;
  const float* row = scores + (long long)blockIdx.x * kept;
  int* out = ids + (long long)blockIdx.x * chosen;
  if (kept <= chosen) {
    for (int j = t; j < kept; j += n) out[j] = j;
    return;
  }
  for (int i = t; i < 4096; i += n) count[i] = 0;
  if (t == 0) n_out = n_edge = 0;
  __syncthreads();
  const float4* four = (const float4*)row;
  for (int j = t; j < kept / 4; j += n) {
    float4 v = four[j];
    atomicAdd(&count[key(v.x) >> 20], 1u);
    atomicAdd(&count[key(v.y) >> 20], 1u);
    atomicAdd(&count[key(v.z) >> 20], 1u);
    atomicAdd(&count[key(v.w) >> 20], 1u);
  }
  __syncthreads();
  find<4096>(count, chosen, &edge, &rest);
  for (int j = t; j < kept / 4; j += n) {
    float4 v = four[j];
    float of[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
      int digit = key(of[i]) >> 20;
      if (digit > edge) out[atomicAdd(&n_out, 1)] = j * 4 + i;
      else if (digit == edge) {
        int at = atomicAdd(&n_edge, 1);
        if (at < MOST) on_edge[at] = j * 4 + i;
      }
    }
  }
  __syncthreads();
  const int candidates = min(n_edge, MOST);
  unsigned prefix = 0, mask = 0;
  for (int shift = 10; shift >= 0; shift -= 10) {
    const int need = rest;
    count[t] = 0;
    __syncthreads();
    for (int i = t; i < candidates; i += n) {
      unsigned low = key(row[on_edge[i]]) & 0xFFFFF;
      if ((low & mask) == prefix) atomicAdd(&count[(low >> shift) & 1023], 1u);
    }
    __syncthreads();
    find<1024>(count, need, &edge, &rest);
    prefix |= (unsigned)edge << shift;
    mask |= 1023u << shift;
  }
  if (t == 0) n_edge = 0;
  __syncthreads();
  for (int i = t; i < candidates; i += n) {
    unsigned low = key(row[on_edge[i]]) & 0xFFFFF;
    if (low > prefix) out[atomicAdd(&n_out, 1)] = on_edge[i];
    else if (low == prefix) {
      int at = atomicAdd(&n_edge, 1);
      if (at < rest) out[chosen - 1 - at] = on_edge[i];
    }
  }
}
"""


def calls(machine: Machine, choose, rows: int, kept: int):
    scores = torch.randn(rows, kept, device=machine.device).relu_() + torch.rand(rows, kept, device=machine.device)
    ids = torch.zeros(rows, CHOSEN, device=machine.device, dtype=torch.int32)

    def ours() -> torch.Tensor:
        choose((rows, 1, 1), (THREADS, 1, 1), (scores, ids, kept, CHOSEN), shared_mem=(4096 + 6144) * 4)
        return ids

    # Equal scores may be chosen in either place, so scores are compared and not ids.
    chosen, best = scores.gather(1, ours().long()), scores.topk(CHOSEN).values
    same = torch.equal(chosen.sort(1).values, best.sort(1).values)
    assert same, f"{rows} rows of {kept} scores: others than the best were chosen"
    return ours, lambda: scores.topk(CHOSEN, sorted=False).indices


def main() -> None:
    machine = Machine.here(tiny=False)
    choose = _compile_kernel(SOURCE, "choose")
    print(f"# {machine.name()}, torch {torch.__version__}")
    print("rows,kept,seconds,pytorch_seconds")
    for rows in ROWS:
        for kept in KEPT:
            if rows * kept <= MOST_SCORES:
                ours, theirs = zip(*(calls(machine, choose, rows, kept) for _ in range(BUFFERS)), strict=True)
                print(f"{rows},{kept},{machine.seconds(ours):.4e},{machine.seconds(theirs):.4e}", flush=True)


if __name__ == "__main__":
    main()
