"""The kit on a processor: tiny shapes, gloo, two processes. Run with `python -m unittest discover tools/measure/tests`."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
ROOT = KIT.parents[1]
sys.path.insert(0, str(KIT))

import torch  # noqa: E402
from moe_gps_measure import layer, question, trace  # noqa: E402
from moe_gps_measure.blocks import BLOCKS, engines, gemm, latent  # noqa: E402
from moe_gps_measure.blocks.experts import Experts, zipf_counts  # noqa: E402
from moe_gps_measure.timing import Machine  # noqa: E402

# Where tables are kept for a check by moe-gps; else they are removed.
KEPT = os.environ.get("MEASURE_KIT_TABLES")
LATENT = {"hidden_size": 64, "num_attention_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1,
          "moe_intermediate_size": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}  # fmt: skip
TRACE = ROOT / "examples" / "traces" / "mixtral_like_e8k2.python.train.npz"


def run(*arguments: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
    """The kit as a user starts it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    path = {**os.environ, "PYTHONPATH": str(KIT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, "-m", "moe_gps_measure", *arguments, "--device-id=h200-sxm"]
    return subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


class Kit(unittest.TestCase):
    def setUp(self) -> None:
        self.held = tempfile.TemporaryDirectory()
        self.out = Path(KEPT or self.held.name)
        self.out.mkdir(parents=True, exist_ok=True)
        self.addCleanup(self.held.cleanup)

    def ask(self, model: str | dict[str, int], **more: object) -> Path:
        path = Path(self.held.name) / f"{model if isinstance(model, str) else 'own'}.json"
        asked = {"model": model, "cluster": {"device": "h200-sxm", "devices": 4, "link": "nvlink4"},
                 "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512}, **more}  # fmt: skip
        path.write_text(json.dumps(asked))
        return path

    def test_operators_fill_a_table_once(self) -> None:
        asked = [f"--question={self.ask(model)}" for model in ("mixtral-8x7b", "deepseek-v2-lite")]
        done = run("operators", "--tiny", f"--out={self.out}", *asked)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["not_measured"], 0, done.stderr)
        found = rows(self.out / "measured.operators.csv")
        ops = {row["op"] for row in found}
        self.assertLessEqual({
            "gemm", "looped_expert_ffn", "attention_prefill", "attention_decode", "latent_attention_prefill",
            "latent_attention_decode", "rms_norm", "silu_mul", "softmax_topk", "copy", "launch_host", "launch_device",
            "predictor_ffn", "predictor_linear", "predictor_lstm", "attention_block",
            "predictor_ffn_before_attention", "predictor_lstm_beside_attention"}, ops)  # fmt: skip
        self.assertTrue(all(float(row["seconds"]) > 0 for row in found))
        again = run("operators", "--tiny", f"--out={self.out}", *asked)
        self.assertEqual((again.returncode, rows(self.out / "measured.operators.csv")), (0, found))

    def test_time_that_is_over_leaves_rows_for_later(self) -> None:
        out = Path(self.held.name) / "short"
        done = run("operators", "--tiny", f"--out={out}", "--minutes=0", "--block=copies")
        self.assertEqual(json.loads(done.stdout)["not_measured"], 1)
        self.assertIn("copies: 3 rows left out, the time is over", done.stderr)
        self.assertEqual(rows(out / "measured.operators.csv"), [])
        run("operators", "--tiny", f"--out={out}", "--block=copies")
        self.assertEqual(len(rows(out / "measured.operators.csv")), 3)

    def test_links_measure_every_collective(self) -> None:
        done = run("links", "--tiny", f"--out={self.out}", processes=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = rows(self.out / "links.operators.csv")
        ops = {row["op"] for row in found}
        self.assertEqual(ops, {"all_reduce", "all_gather", "reduce_scatter", "alltoall", "alltoall_split"}, done.stderr)
        self.assertEqual({row["framework"] for row in found}, {"gloo"})
        self.assertEqual(run("links").returncode, 2)

    def test_a_layer_is_held_against_an_answer(self) -> None:
        terms = {"attention_s": 4e-5, "router_s": 1e-5, "other_s": 2e-5, "all_reduce_s": 1e-5, "dispatch_s": 0.0, "combine_s": 1e-5}
        answer = {
            "recommendation": {"strategy": "replace_only"},
            "strategies": [{"strategy": "none", "terms": {**terms, "expert_ffn_s": 3e-4}},
                           {"strategy": "replace_only", "terms": {**terms, "expert_ffn_s": 2e-4}}],
            "provenance": {"assumptions": {"communication": "replicated"}},
        }  # fmt: skip
        plan = {"strategy": "replace_only", "devices": 2, "n_logical_experts": 8,
                "layers": [{"layer": at, "physical_to_logical": [0, 2, 4, 6, 1, 3, 5, 7]} for at in range(8)]}  # fmt: skip
        cluster = {"device": "h200-sxm", "devices": 2, "link": "nvlink4"}
        names = {"answer": answer, "placement": plan}
        files = ["", f"--trace={TRACE}", "--steps=1", "--layers=2"]
        for name, value in names.items():
            (Path(self.held.name) / f"{name}.json").write_text(json.dumps(value))
            files.append(f"--{name}={Path(self.held.name) / name}.json")
        for processes in (0, 2):
            # Once the usual attention, once latent attention and an expert of every token.
            asked = self.ask(LATENT if processes else "mixtral-8x7b", cluster=cluster)
            files[0] = f"--question={asked}"
            for communication in ("allgather_reducescatter", "alltoall") if processes else ("replicated",):
                answer["provenance"]["assumptions"]["communication"] = communication
                (Path(self.held.name) / "answer.json").write_text(json.dumps(answer))
                out = Path(self.held.name) / f"{communication}{processes}"
                done = run("layer", "--tiny", f"--out={out}", *files, processes=processes)
                self.assertEqual(done.returncode, 0, done.stderr)
                said = json.loads((out / "layer.replace_only.json").read_text())
                self.assertEqual(said["communication"], bool(processes))
                self.assertEqual(set(said["measured"]), {"none", "advised", "balanced"})
                self.assertAlmostEqual(said["regret"], max(0.0, 1 / said["measured_gain"] - 1))
                self.assertIn("advice replace_only (recommended): " + ("right" if said["regret"] == 0 else "wrong"), done.stdout)
                promised = 3.7e-4 / 2.7e-4 if not processes else 3.9e-4 / 2.9e-4
                self.assertAlmostEqual(said["predicted_gain"], promised)
                had = set(said["measured"]["none"])
                self.assertEqual({"dispatch_s", "combine_s", "all_reduce_s"} & had, had - set(layer.COMPUTE))
                self.assertEqual("dispatch_s" in had, bool(processes))
        if KEPT:
            for name in ("layer.operators.csv", "layer.replace_only.json"):
                (self.out / name).write_text((Path(self.held.name) / "replicated0" / name).read_text())


class Parts(unittest.TestCase):
    def test_shapes_follow_the_question(self) -> None:
        asked = {"cluster": {"devices": 4}, "workload": {"phase": "decode", "batch_size": 64, "kv_length": 2048}}
        mixtral = question.parse({"model": "mixtral-8x7b", **asked})
        self.assertEqual((mixtral.tokens, mixtral.length, mixtral.local_experts, mixtral.attention_tensor), (64, 2048, 2, 4))
        self.assertIn((1536, 4096), gemm.widths(mixtral.model, 4))
        self.assertIn((8, 4096), gemm.widths(mixtral.model, 4))
        lite = question.parse({"model": "deepseek-v2-lite", **asked, "parallelism": {"attention_data": 4}})
        self.assertEqual((lite.attention_tensor, lite.model.latent), (1, question.Latent(512, 128, 64, 128)))
        self.assertIn((576, 2048), gemm.widths(lite.model, 1))
        shapes = {case.op: case.shape for case in BLOCKS["latent attention"](lite)}
        self.assertEqual(shapes["latent_attention_decode"]["kv_lora_rank"], 512)
        inline = {"hidden_size": 64, "num_attention_heads": 4, "num_local_experts": 8, "moe_intermediate_size": 16}
        self.assertEqual(question.model_of(inline).head_dim, 16)
        with self.assertRaisesRegex(SystemExit, "/model: no file catalog/models/abacus.toml"):
            question.model_of("abacus")

    def test_loads_are_those_of_the_format(self) -> None:
        self.assertEqual(zipf_counts(2, 256, 1.0), [171, 85])
        self.assertEqual(zipf_counts(3, 10, 0.0), [4, 3, 3])

    def test_grouped_experts_compute_what_single_ones_do(self) -> None:
        machine = Machine(torch.device("cpu"), torch.float32)
        block = Experts(machine, 16, 8, [3, 0, 2], looped=True)
        out = block()
        for rows_of, expert in ((slice(0, 3), 0), (slice(3, 5), 2)):
            gate, up = (block.tokens[rows_of] @ block.up[expert]).chunk(2, dim=-1)
            expected = (torch.nn.functional.silu(gate) * up) @ block.down[expert]
            torch.testing.assert_close(out[rows_of], expected)

    def test_kernels_of_engines_get_the_loads_that_are_stated(self) -> None:
        seen = []
        def kernel(rows, up, down, weights, chosen):  # type: ignore[no-untyped-def]
            seen.append((rows.shape, up.shape, down.shape, chosen.flatten().tolist(), weights.shape))
            return lambda: None
        engines.calls(Machine(torch.device("cpu"), torch.float32), kernel, 16, 8, [2, 0, 1])
        self.assertEqual(seen, [((3, 16), (3, 16, 16), (3, 16, 8), [0, 0, 2], (3, 1))])

    def test_loads_of_a_placement(self) -> None:
        chosen = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 1]])
        found = layer.load(chosen, [0, 1, 2, 3], 2, 4)
        self.assertEqual(found.slots, [[4, 2], [1, 1]])
        self.assertEqual(found.sent, [[3, 1], [3, 1]])
        copied = layer.load(chosen, [0, 1, 3, 0, 2, 3], 2, 4)
        self.assertEqual(copied.slots, [[2, 2, 1], [2, 1, 0]])
        self.assertEqual(layer.balanced(4, 2, 2, 2).slots, [[2, 2], [2, 2]])

    def test_latent_attention_has_the_width_of_the_model(self) -> None:
        asked = {"model": LATENT, "cluster": {"devices": 2}, "workload": {"phase": "decode", "batch_size": 2}}
        model = question.tiny(question.parse(asked)).model
        machine = Machine(torch.device("cpu"), torch.float32)
        for length in (1, 4):
            out = latent.block(model, model.latent, 2, 16)(machine, 3, length)()
            self.assertEqual(tuple(out.shape), (3 * length, model.hidden))
            self.assertTrue(bool(out.isfinite().all()))

    def test_routes_are_read_without_numpy(self) -> None:
        routes = trace.routes(TRACE)
        self.assertEqual(tuple(routes.shape), (96, 512, 8, 2))
        self.assertEqual(int(routes.max()), 7)


if __name__ == "__main__":
    unittest.main()
