"""The kit on a processor: tiny shapes, gloo, two processes. Run with `python -m unittest discover tools/measure/tests`."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
ROOT = KIT.parents[1]
sys.path.insert(0, str(KIT))

import torch  # noqa: E402
from moe_gps_measure import layer, question, trace  # noqa: E402
from moe_gps_measure.blocks import BLOCKS, engines, fp8_block, gemm, latent, pairs, predictors  # noqa: E402
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


def interpreted(code: str) -> float:
    """The number that a program prints where Triton's interpreter runs the kernels."""
    path = {**os.environ, "PYTHONPATH": str(KIT), "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return float(done.stdout)


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
        self._without_a_recording(answer, files)
        if KEPT:
            for name in ("layer.operators.csv", "layer.replace_only.json"):
                (self.out / name).write_text((Path(self.held.name) / "replicated0" / name).read_text())

    def _without_a_recording(self, answer: dict, files: list[str]) -> None:
        """Routes are drawn by the load of the answer, or by counts; experts in 8 bits."""
        answer["routing"] = {"busiest_layer": {"layer": 3, "expert_shares": [0.3, *[0.1] * 7]}}
        (Path(self.held.name) / "answer.json").write_text(json.dumps(answer))
        counted = Path(self.held.name) / "counts.json"
        counted.write_text(json.dumps({"counts": [[[1, 0, 0, 0, 0, 0, 0, 9]] * 8, [[5, 4, 3, 2, 1, 1, 1, 1]] * 8]}))
        work = {"phase": "decode", "batch_size": 16, "kv_length": 32, "dtype": "fp8_block"}
        files = [f"--question={self.ask('mixtral-8x7b', cluster={'device': 'h200-sxm', 'devices': 2}, workload=work)}",
                 *(each for each in files[1:] if not each.startswith("--trace"))]  # fmt: skip
        for more, said in ([], "drawn by the load of layer 3 in the answer, skewness 2.40"), (
            [f"--trace={counted}"], "drawn by the counts in the second half of counts.json"):  # fmt: skip
            out = Path(self.held.name) / f"drawn{len(more)}"
            done = run("layer", "--tiny", f"--out={out}", *files, *more, processes=2)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"routes: {said}\n", done.stdout)
            self.assertEqual(json.loads((out / "layer.replace_only.json").read_text())["routes"], said)
            ops = ("layer_experts", "layer_attention")
            shapes = [row["shape"] for row in rows(out / "layer.operators.csv") if row["op"] in ops]
            self.assertTrue(shapes and all(shape.endswith(";format=fp8_block") for shape in shapes))
        work["quantization"] = "nvfp4"
        files[0] = f"--question={self.ask('mixtral-8x7b', workload=work)}"
        self.assertIn("/workload: weights in nvfp4 are not built here", run("layer", "--tiny", f"--out={self.out}", *files).stderr)


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

    def test_experts_in_8_bits_compute_what_their_scales_say(self) -> None:
        machine = Machine(torch.device("cpu"), torch.float32)
        block = fp8_block.BlockExperts(machine, 160, 32, [2, 0, 1], looped=True)
        weights = machine.weights(2, 160, 200)
        small, scales = fp8_block.quantised_weights(weights)
        self.assertEqual((small.dtype, tuple(scales.shape)), (torch.float8_e4m3fn, (2, 2, 2)))
        # The format has four significant bits, the last of which is rounded; numbers near zero are off by their block's scale.
        whole = small.float() * fp8_block._spread(scales, 160, 200)
        self.assertLess(float((whole - weights).norm() / weights.norm()), 2**-5)
        exact = [part.exact() for part in (block.up, block.down)]
        gate, up = (block.tokens[2:] @ exact[0][2].t()).chunk(2, dim=-1)
        torch.testing.assert_close(block()[2:], (torch.nn.functional.silu(gate) * up) @ exact[1][2].t())
        tiles = fp8_block.Tiles([20, 0, 5], machine.device)
        self.assertEqual((tiles.height, tiles.map.tolist()), (16, [[0, 0, 2], [0, 16, 20], [20, 20, 25]]))
        asked = {"model": "mixtral-8x7b", "cluster": {"devices": 4}}
        held = lambda work: question.parse({**asked, "workload": {"phase": "decode", "batch_size": 4, **work}})  # noqa: E731
        for work, formats in (({}, ("bf16", "bf16")), ({"dtype": "fp8_block"}, ("fp8_block", "fp8_block")),
                              ({"dtypes": {"weights": "fp8"}}, ("fp8", "fp8")),
                              ({"dtype": "bf16", "quantization": {"experts": "fp8_block"}}, ("fp8_block", "bf16"))):  # fmt: skip
            self.assertEqual((held(work).experts_format, held(work).rest_format), formats)
        found = {case.shape.get("format") for case in BLOCKS["experts"](held({"quantization": "fp8_block"}))}
        self.assertEqual(found, {None, "fp8_block"})

    @unittest.skipUnless(fp8_block.triton and find_spec("numpy"), "Triton, or NumPy for its interpreter, is absent")
    def test_the_kernel_of_8_bits_by_its_interpreter(self) -> None:
        code = """
import torch
from moe_gps_measure.blocks import fp8_block
from moe_gps_measure.timing import Machine
torch.manual_seed(0)
machine = Machine(torch.device("cpu"), torch.float32)
block = fp8_block.Product(machine, 256, 200, [150, 0, 20], looped=True)
rows = machine.random(170, 256)
exact, block.looped = block(rows), False
print(float((block(rows) - exact).norm() / exact.norm()))
"""
        # The interpreter cuts numbers off where a GPU rounds them.
        self.assertLess(interpreted(code), 0.1)

    def test_pairs_are_summed_for_every_token(self) -> None:
        at, weights = torch.tensor([[2, -1], [0, 3], [-1, -1], [1, -1]]), torch.rand(4, 2)
        outputs, expected = torch.randn(4, 48), torch.zeros(4, 48)
        for token, choice in (at >= 0).nonzero().tolist():
            expected[token] += weights[token, choice] * outputs[at[token, choice]]
        torch.testing.assert_close(pairs.combine(outputs, at, weights, False), expected)
        out = pairs.moved(Machine(torch.device("cpu"), torch.float32), 6, 2, 5, 48)()
        self.assertEqual(tuple(out.shape), (6, 48))
        self.assertLessEqual(int((out != 0).any(1).sum()), 5)

    @unittest.skipUnless(fp8_block.triton and find_spec("numpy"), "Triton, or NumPy for its interpreter, is absent")
    def test_the_kernel_of_pairs_by_its_interpreter(self) -> None:
        code = """
import torch
from moe_gps_measure.blocks import pairs
at = torch.randperm(60).view(20, 3)
at = torch.where(at < 40, at, -1)
outputs, weights = torch.randn(40, 1500), torch.rand(20, 3)
exact = pairs.combine(outputs, at, weights, False)
print(float((pairs.combine(outputs, at, weights, True) - exact).norm() / exact.norm()))
"""
        self.assertLess(interpreted(code), 1e-6)

    def test_routes_are_drawn_by_loads(self) -> None:
        load = [10, 1, 5, 3, 1, 1, 1, 1]
        chosen = trace.draw(load, 20000, 2, 0, 0)
        self.assertTrue(bool((chosen[:, 0] != chosen[:, 1]).all()))
        found = torch.bincount(chosen.flatten(), minlength=8) / 20000
        torch.testing.assert_close(found, torch.tensor(load) * 2 / 23, atol=0.012, rtol=0)
        self.assertTrue(torch.equal(chosen, trace.draw(load, 20000, 2, 0, 0)))
        self.assertFalse(torch.equal(chosen, trace.draw(load, 20000, 2, 1, 0)))
        # An expert that is asked for more than once by every token is visited by every token.
        full = torch.bincount(trace.draw([9, 1, 1, 1], 9000, 2, 0, 0).flatten(), minlength=4) / 9000
        torch.testing.assert_close(full, torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3]), atol=0.02, rtol=0)
        shares = trace.source(None, {}, {"expert_shares": [load, load[::-1]]}, 4, 2, True)
        self.assertEqual((shares.has(1), shares.has(2), tuple(shares.step(0, 1).shape)), (True, False, (4, 2)))

    def test_recurrent_predictors_are_timed_by_both_kernels(self) -> None:
        asked = question.tiny(question.parse({"model": "mixtral-8x7b", "cluster": {"devices": 2}, "workload": {"phase": "decode", "batch_size": 2}}))
        kernels = {case.kernel for case in predictors.cases(asked) if case.op == "predictor_lstm"}
        self.assertEqual(kernels, {"cudnn", "pytorch"})

    def test_loads_of_a_placement(self) -> None:
        chosen = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 1]])
        found = layer.load(chosen, [0, 1, 2, 3], 2, 4)
        self.assertEqual(found.slots, [[4, 2], [1, 1]])
        self.assertEqual(found.sent, [[3, 1], [3, 1]])
        copied = layer.load(chosen, [0, 1, 3, 0, 2, 3], 2, 4)
        self.assertEqual(copied.slots, [[2, 2, 1], [2, 1, 0]])
        self.assertEqual(layer.balanced(4, 2, 2, 2).slots, [[2, 2], [2, 2]])

    def test_attention_in_8_bits_is_close_to_that_in_16(self) -> None:
        machine = Machine(torch.device("cpu"), torch.float32)
        model = question.tiny(question.parse({"model": LATENT, "cluster": {"devices": 2}, "workload": {"phase": "decode", "batch_size": 2}})).model
        for build in (lambda b: predictors.attention_block(model, 1, 16, b), lambda b: latent.block(model, model.latent, 1, 16, b)):
            for length in (1, 4):
                torch.manual_seed(0)
                exact = build(False)(machine, 3, length)()
                torch.manual_seed(0)
                small = build(True)(machine, 3, length)()
                self.assertLess(float((small - exact).norm() / exact.norm()), 0.2)

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
