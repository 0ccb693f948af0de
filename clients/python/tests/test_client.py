"""The client against the real program. Run with `python -m unittest discover clients/python/tests`."""

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from service import PACKAGE, ROOT, Service

from moe_gps import Client, JobEnded, Problem, TookTooLong, Unreachable

QUESTION = json.loads((ROOT / "examples/questions/serving-qwen3-h100.json").read_text())
MIXTRAL = json.loads((ROOT / "examples/questions/mixtral-h100.json").read_text())
# At 1,024 tokens a step nothing is worth its cost with SGLang; at 2,048 a plan is.
MIXTRAL["workload"]["batch_size"] = 4
TRACE = ROOT / "examples/traces/mixtral_like_e8k2.python.test.npz"
FIXTURES = ROOT / "tests/fixtures/engines"


def asked(skewness: float) -> dict:
    """A question unlike those of other skewness."""
    return {**QUESTION, "routing": {"skewness": skewness}}


def embedding(rows: int, columns: int) -> bytes:
    """A NumPy file of zeros."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    head = head.ljust((10 + len(head)) // 64 * 64 + 53) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(4 * rows * columns)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Noted(Client):
    """A client that notes what it was answered: method and path."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = set()
        send = self._http.send

        def noting(method, path, **rest):
            answer = send(method, path, **rest)
            self.sent.add((method, path))
            return answer

        self._http.send = noting


class EveryOperation(unittest.TestCase):
    """What `openapi/operations.txt` lists is asked for once, in the order of a user's day."""

    def test_every_operation_has_a_method_that_works(self) -> None:
        with Service() as service:
            client = Noted(service.url)
            self.assertEqual(client.livez()["status"], "live")
            self.assertEqual(client.readyz()["status"], "ready")
            self.catalog(client)
            trace = self.recordings(client)
            self.answers(client, trace)
            client.delete_trace(trace)
            self.assertIn('moe_gps_questions_total{outcome="new"} 4', client.metrics())
            self.assertEqual(list(client.list_traces()), [])
            self.deployments(client)
            self.assertEqual(list(client.list_traces()), [])
        absent = [f"{method} {path}" for method, path in self.operations() if not self.was_sent(client.sent, method, path)]
        self.assertEqual(absent, [], "operations that no call of this test asked for")

    @staticmethod
    def operations() -> list:
        lines = (ROOT / "openapi/operations.txt").read_text().splitlines()
        return [tuple(line.split()[1:]) for line in lines]

    @staticmethod
    def was_sent(sent: set, method: str, path: str) -> bool:
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        # `compare` is no id.
        fixed = {other for _, other in EveryOperation.operations() if "{" not in other}
        return any(method == how and pattern.fullmatch(where) and (where == path or where not in fixed) for how, where in sent)

    def catalog(self, client: Client) -> None:
        device = client.get_device("h100-sxm")
        self.assertIn("h100-sxm", [one["id"] for one in client.list_devices()["items"]])
        profile = (ROOT / "catalog/devices/h100-sxm.toml").read_text()
        own = re.sub(r'(?m)^id = .*$', 'id = "h100-of-ours"', profile, count=1)
        self.assertEqual(client.register_device(own)["id"], "h100-of-ours")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "own.toml"
            file.write_text(own)
            self.assertEqual(client.register_device(file)["id"], "h100-of-ours")
        self.assertEqual(client.get_device("h100-of-ours").keys(), device.keys() | {"registered_at"})
        client.delete_device("h100-of-ours")
        config = json.loads((ROOT / "examples/questions/hugging-face-config.json").read_text())["model"]
        registered = client.register_model({"id": "ours", "config": config})
        self.assertEqual(client.get_model("ours"), registered)
        self.assertIn("ours", [one["id"] for one in client.list_models()["items"]])
        client.delete_model("ours")
        self.assertIn("nvlink4", [one["id"] for one in client.list_links()["items"]])
        self.assertEqual(client.get_link("nvlink4")["id"], "nvlink4")

    def recordings(self, client: Client) -> str:
        trace = client.upload_trace(TRACE, num_experts=8)
        self.assertEqual((trace["name"], trace["layers"], trace["experts"]), (TRACE.name, 8, 8))
        id = trace["id"]
        client.put_embedding(id, embedding(256, 4))
        self.assertTrue(client.get_trace(id)["has_embedding"])
        self.assertEqual([one["id"] for one in client.list_traces()], [id])
        report = client.get_report(id, 4, tokens_per_step=512)
        self.assertEqual((report["devices"], report["experts"], report["layers"]), (4, 8, list(range(8))))
        self.assertIn("<svg", client.get_report_page(id, 4))
        return id

    def answers(self, client: Client, trace: str) -> None:
        question = {**MIXTRAL, "engine": {"name": "sglang"}, "routing": {"trace_id": trace}}
        job = client.recommend(question, labels={"team": "a"})
        id, strategy = job["id"], job["result"]["recommendation"]["strategy"]
        self.assertEqual(client.get_recommendation(id)["result"], job["result"])
        other = client.ask_recommendation(QUESTION, wait_s=60)
        self.assertEqual([one["id"] for one in client.list_recommendations(label="team:a")], [id])
        self.assertEqual(client.put_labels(id, {"team": "b"}), {"team": "b"})
        self.assertEqual([one["id"] for one in client.list_recommendations(limit=1)], [other["id"], id])
        differences = {one["pointer"] for one in client.compare_recommendations(id, other["id"])["question"]}
        self.assertIn("/model", differences)
        launch = client.get_launch(id, path="/plans/a.json")
        self.assertEqual((launch["engine"], launch["strategy"]), ("sglang", strategy))
        self.assertIn("/plans/a.json", launch["argv"])
        plan = json.loads(client.get_placement_file(id, "sglang"))["physical_to_logical_map"]
        self.assertEqual(plan[:8], [layer["physical_to_logical"] for layer in client.get_placement(id)["layers"]])
        table = client.get_step_times(id, [1, 16], kv=[1024])
        self.assertEqual(table.splitlines()[0].split(",")[:2], ["phase", "tokens"])
        winners = client.sweep(QUESTION, [{"parameter": "skewness", "values": [1, 4]}])["winner"]
        self.assertEqual([len(row) for row in winners], [2])
        self.outcome(client, id, strategy)
        third = client.ask_recommendation(asked(3.5))
        client.delete_recommendation(client.wait(third)["id"])
        with self.assertRaises(Problem) as gone:
            client.get_recommendation(third["id"])
        self.assertEqual(gone.exception.kind, "not-found")
        client.wait(client.ask_recommendation(asked(3.6), labels={"team": "c"}))
        client.delete_recommendations(label="team:c")
        self.assertEqual(list(client.list_recommendations(label="team:c")), [])

    def deployments(self, client: Client) -> None:
        told = client.put_deployment("prod", MIXTRAL, policy={"for": "10m", "every": "0s"}, labels={"fleet": "eu"})
        self.assertEqual((told["version"], told["spec"]["policy"]["for"]), (1, "10m"))
        self.assertEqual([one["name"] for one in client.list_deployments()["items"]], ["prod"])
        window = client.post_loads("prod", TRACE, since="2026-01-31T12:00:00Z", until="2026-01-31T12:01:00Z")
        self.assertEqual(window["to"], "2026-01-31T12:01:00.000Z")
        seen = client.get_deployment("prod", wait_s=60)
        self.assertEqual([one["type"] for one in seen["conditions"]], ["LoadsFresh", "Judged", "AdviceCurrent"])
        last = seen["last_judgement"]
        self.assertEqual((last["windows"], last["status"]), (1, "succeeded"))
        [judgement] = client.list_judgements("prod")
        self.assertEqual(judgement, last)
        self.assertEqual(client.get_recommendation(last["id"])["labels"], {"deployment": "prod", "fleet": "eu"})
        current = client.put_current("prod", {"strategy": "none"})["spec"]["current"]
        self.assertEqual(current, {"strategy": "none"})
        plan = json.dumps({"physical_to_logical_map": [[7, 6, 5, 4, 3, 2, 1, 0]] * 32}).encode()
        current = client.put_current("prod", plan)["spec"]["current"]
        self.assertEqual(current["physical_to_logical"][31], [7, 6, 5, 4, 3, 2, 1, 0])
        client.delete_deployment("prod")
        with self.assertRaises(Problem) as gone:
            client.get_deployment("prod")
        self.assertEqual(gone.exception.kind, "not-found")

    def outcome(self, client: Client, id: str, strategy: str) -> None:
        kept = client.report_outcome(id, strategy, step_s=0.01, steps=100, note="a trial")
        self.assertEqual((kept["strategy"], kept["step_s"], kept["steps"]), (strategy, 0.01, 100))


class Behaviour(unittest.TestCase):
    """What is more than one request."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = Service()
        cls.client = Client(cls.service.url)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.service.stop()

    def test_a_refused_question_names_every_part(self) -> None:
        with self.assertRaises(Problem) as refused:
            self.client.recommend({**QUESTION, "engine": {"name": "nobody"}, "surprise": 1})
        self.assertEqual((refused.exception.status, refused.exception.kind), (422, "invalid-question"))
        self.assertEqual(sorted(refused.exception.pointers), ["/engine/name", "/surprise"])
        self.assertIn("/engine/name: ", str(refused.exception))
        self.assertIsNotNone(refused.exception.request_id)

    def test_a_key_leads_to_one_question(self) -> None:
        first = self.client.ask_recommendation(asked(1.5), idempotency_key="slurm-1")
        self.assertEqual(self.client.ask_recommendation(asked(1.5), idempotency_key="slurm-1")["id"], first["id"])
        with self.assertRaises(Problem) as refused:
            self.client.ask_recommendation(asked(1.6), idempotency_key="slurm-1")
        self.assertEqual(refused.exception.status, 422)

    def test_lists_and_tables_go_over_all_pages(self) -> None:
        ids = {self.client.recommend(asked(skewness), labels={"of": "pages"})["id"] for skewness in (1.1, 1.2, 1.3)}
        filters = {"label": "of:pages", "limit": 2}
        self.assertEqual({one["id"] for one in self.client.list_recommendations(**filters)}, ids)
        head, *rows = self.client.export_recommendations(**filters)
        self.assertEqual((head.split(",")[0], {row.split(",")[0] for row in rows}, len(rows)), ("id", ids, 3))
        lines = [json.loads(line) for line in self.client.export_recommendations("ndjson", **filters)]
        self.assertEqual({one["id"] for one in lines}, ids)

    def test_recordings_come_as_file_folder_bytes_or_open_file(self) -> None:
        packed = self.client.upload_trace(ROOT / "examples/traces/deepseek_v3_like.sglang_stat.pt.gz")
        self.assertEqual((packed["layers"], packed["experts"], packed["steps"]), (58, 256, 8))
        with open(TRACE, "rb") as file:
            opened = self.client.upload_trace(file)
        self.assertEqual(self.client.upload_trace(TRACE.read_bytes(), name="again")["id"], opened["id"])
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(FIXTURES / "trtllm.tar") as archive:
                archive.extractall(folder)
            ranks = next(path.parent for path in Path(folder).rglob("meta_info.json"))
            loads = self.client.upload_trace(ranks)
        whole = self.client.upload_trace(FIXTURES / "trtllm.tar")
        self.assertEqual([loads[key] for key in ("layers", "experts", "skewness")], [whole[key] for key in ("layers", "experts", "skewness")])

    def test_a_recording_that_is_too_large_is_refused_in_words(self) -> None:
        with Service("--max-upload-bytes", "1000") as service, self.assertRaises(Problem) as refused:
            Client(service.url, patience_s=0).upload_trace(TRACE)
        self.assertEqual(refused.exception.kind, "too-large")

    def test_tokens_come_from_the_environment(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".tokens") as tokens:
            tokens.write("r" * 32 + " read reader\n")
            tokens.flush()
            with Service("--token-file", tokens.name) as service, mock.patch.dict(os.environ):
                os.environ.pop("MOE_GPS_TOKEN", None)
                os.environ["MOE_GPS_URL"] = service.url
                with self.assertRaises(Problem) as refused:
                    Client().list_models()
                self.assertEqual((refused.exception.status, refused.exception.kind), (401, "unauthenticated"))
                os.environ["MOE_GPS_TOKEN"] = "r" * 32
                self.assertTrue(Client().list_models()["items"])
                with self.assertRaises(Problem) as refused:
                    Client().recommend(QUESTION)
                self.assertEqual(refused.exception.kind, "forbidden")

    def test_a_full_queue_is_waited_for(self) -> None:
        with Service("--workers", "1", "--queue-limit", "1") as service:
            client = Client(service.url)
            ended, threads = [], []
            for index in range(12):
                question = asked(2 + index / 16)
                threads.append(threading.Thread(target=lambda asked=question: ended.append(client.recommend(asked)["status"])))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(ended, ["succeeded"] * 12)

    def test_a_full_queue_is_told_and_what_it_holds_is_tried_again(self) -> None:
        with Service("--workers", "1", "--queue-limit", "1") as service:
            client = Client(service.url, patience_s=0)
            trace = client.upload_trace(TRACE)["id"]
            client.put_embedding(trace, embedding(32_000, 64))
            # Fitting takes seconds, and ends where it is canceled.
            fitted = [{"fit": "lstm"}, {"fit": "ffn"}]
            slow = client.ask_recommendation({**MIXTRAL, "routing": {"trace_id": trace}, "predictors": fitted})
            self.assertEqual(client.ask_recommendation(asked(2))["status"], "queued")
            with self.assertRaises(Problem) as full:
                client.ask_recommendation(asked(3))
            self.assertEqual((full.exception.status, full.exception.kind), (503, "queue-full"))
            self.assertGreaterEqual(full.exception.retry_after_s, 1)
            canceling = threading.Timer(0.5, client.delete_recommendation, [slow["id"]])
            canceling.start()
            self.assertEqual(Client(service.url).recommend(asked(3))["status"], "succeeded")
            canceling.join()

    def test_a_job_that_has_not_ended_can_be_waited_for_again_or_canceled(self) -> None:
        with Service("--workers", "1") as service:
            client = Client(service.url)
            jobs = [client.ask_recommendation(asked(2 + index / 64)) for index in range(40)]
            with self.assertRaises(TookTooLong) as early:
                client.wait(jobs[-1], timeout_s=0)
            self.assertEqual(early.exception.job["id"], jobs[-1]["id"])
            canceled = client.delete_recommendation(jobs[-1]["id"])
            self.assertEqual(canceled["status"], "canceled")
            self.assertIn("canceled", str(JobEnded(canceled)))
            self.assertEqual(client.wait(jobs[0])["status"], "succeeded")

    def test_a_service_that_is_away_is_told_from_one_that_comes_back(self) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with self.assertRaises(Unreachable) as away:
            Client(url, patience_s=0).list_links()
        self.assertIn(url, str(away.exception))
        found = []
        asking = threading.Thread(target=lambda: found.append(Client(url, patience_s=30).recommend(QUESTION)["status"]))
        asking.start()
        with Service(listen=f"127.0.0.1:{port}"):
            asking.join()
        self.assertEqual(found, ["succeeded"])

    def test_an_address_that_is_none_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "MOE_GPS_URL"):
            Client("127.0.0.1:8080")

    def test_the_example_writes_what_an_engine_is_started_with(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            plan, question = Path(folder) / "plan", Path(folder) / "question.json"
            question.write_text(json.dumps(MIXTRAL))
            command = [sys.executable, PACKAGE / "examples/ask_for_a_placement.py", "--question", question,
                       "--trace", TRACE, "--into", plan]  # fmt: skip
            environment = {**os.environ, "MOE_GPS_URL": self.service.url, "PYTHONPATH": str(PACKAGE)}

            def run(*more: str, **other: str) -> tuple:
                done = subprocess.run([*command, *more], env={**environment, **other}, capture_output=True, text=True, check=True)
                arguments = json.loads(done.stdout)
                self.assertEqual((plan / "arguments").read_bytes().split(b"\0")[:-1], [one.encode() for one in arguments])
                return arguments, done.stderr

            arguments, told = run("--engine", "sglang")
            self.assertEqual(arguments[:2], ["--init-expert-location", str(plan.resolve() / "placement")])
            self.assertRegex(told, "moe-gps: [0-9a-f-]{36}: recommended: ")
            self.assertEqual(len(json.loads((plan / "placement").read_text())["physical_to_logical_map"]), 32)
            arguments, _ = run("--engine", "tensorrt-llm")
            self.assertEqual(arguments, [])
            self.assertTrue((plan / "options.yaml").read_text().startswith("moe_config:\n  load_balancer: "))
            arguments, _ = run("--engine", "vllm-ascend")
            self.assertIn("DYNAMIC_EPLB=true", (plan / "environment").read_text().split())
            arguments, told = run("--time-limit-s", "1", MOE_GPS_URL=f"http://127.0.0.1:{free_port()}")
            self.assertEqual((arguments, [path.name for path in sorted(plan.iterdir())]), ([], ["arguments", "environment"]))
            self.assertIn("without advice", told)


if __name__ == "__main__":
    unittest.main()
