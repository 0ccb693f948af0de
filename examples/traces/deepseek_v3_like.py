"""Makes deepseek_v3_like.sglang_stat.pt.gz: what SGLang's expert distribution recorder (mode stat)
dumps for DeepSeek-V3, with loads that are made up but shaped like published ones.

61 layers of which 0 to 2 are dense, 256 experts, 8 steps of 4,096 tokens with 8 experts each. Every
layer has its own lognormal popularity (sigma 0.7; hottest expert 5 to 12 times the mean) that
wanders from step to step (sigma 0.1), so that a plan for the first half is not perfect on the rest.

    pip install torch numpy && python deepseek_v3_like.py
"""
import gzip, io
import numpy as np, torch

rng = np.random.default_rng(3)
steps, layers, experts, assignments = 8, 61, 256, 4096 * 8
counts = np.zeros((steps, layers, experts), dtype=np.int32)
popularity = rng.normal(0, 0.7, size=(layers, experts))
for step in range(steps):
    for layer in range(3, layers):
        share = np.exp(popularity[layer])
        share = np.minimum(share / share.sum(), 1 / 8)
        counts[step, layer] = rng.multinomial(assignments, share / share.sum())
    popularity += rng.normal(0, 0.1, size=popularity.shape)
file = io.BytesIO()
torch.save({"rank": 0, "logical_count": torch.tensor(counts), "average_utilization_rate_over_window": None}, file)
with open("deepseek_v3_like.sglang_stat.pt.gz", "wb") as out:
    out.write(gzip.compress(file.getvalue(), 9, mtime=0))
