"""What `deploy/` holds, against the real program and the tools that read it. Run with
`python -m unittest discover deploy/tests`; it needs PyYAML, kubectl, kubernetes-validate and promtool."""

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1]
ROOT = DEPLOY.parent
sys.path.insert(0, str(ROOT / "clients/python/tests"))
from service import Service, program  # noqa: E402

import yaml  # noqa: E402
from moe_gps import Client  # noqa: E402

OPERATOR = DEPLOY / "kustomize/components/prometheus-operator"
FIXTURES = ROOT / "tests/fixtures/engines"
QUESTION = ROOT / "examples/questions/serving-qwen3-h100.json"
SELECTOR = re.compile(r"(moe_gps_\w+)(?:\{([^}]*)\})?")


def run(*command, **more) -> subprocess.CompletedProcess:
    """A command that has to succeed; its words are shown if it does not."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def tool(name: str) -> str:
    """The path of a tool, beside this interpreter or on the path; a test without it is skipped in words."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        print(f"skipped: {name} is absent")
        raise unittest.SkipTest(f"{name} is absent")
    return path


def documents(folder: str) -> list:
    """What `kubectl kustomize` makes of a folder."""
    return list(yaml.safe_load_all(run(tool("kubectl"), "kustomize", DEPLOY / "kustomize" / folder).stdout))


def dashboard() -> dict:
    """The dashboard of Grafana."""
    return json.loads((DEPLOY / "grafana/moe-gps.json").read_text())


def queries() -> list:
    """All expressions of the dashboard, its variables filled in."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [expr.replace("$__rate_interval", "5m").replace("$instance", ".*") for expr in found]


class Cluster(unittest.TestCase):
    """Kustomize."""

    def test_manifests_are_valid(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for overlay, core_kinds in (("overlays/postgres", 3), ("base", 2), ("overlays/monitored", 2)):
                kinds = documents(overlay)
                core = [one for one in kinds if not one["apiVersion"].startswith("monitoring.coreos.com")]
                file = Path(folder) / "manifests.yaml"
                file.write_text(yaml.safe_dump_all(core))
                told = run(tool("kubernetes-validate"), "--strict", file)
                self.assertEqual((told.stdout + told.stderr).count("passed for resource"), core_kinds)
            self.assertEqual({one["kind"] for one in kinds}, {"Service", "StatefulSet", "ServiceMonitor", "PrometheusRule"})

    def test_the_pod_is_what_the_program_takes(self) -> None:
        pod = next(one for one in documents("base") if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
        [container] = pod["containers"]
        manual = run(program(), "serve", "--help").stdout
        for setting in container["env"]:
            self.assertIn(f"[env: {setting['name']}=]", manual)
        self.assertIn(f"USER {pod['securityContext']['runAsUser']}", (ROOT / "docker/Dockerfile").read_text())
        drain = int(next(one["value"] for one in container["env"] if one["name"] == "MOE_GPS_DRAIN_DELAY_S"))
        timeout = int(re.search(r"--drain-timeout-s.*?\[default: (\d+)\]", manual, re.S).group(1))
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], drain + timeout + 2)
        paths = {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
        with tempfile.TemporaryDirectory() as folder:
            # As in the pod: all addresses, the token in a file.
            tokens = Path(folder) / "tokens"
            tokens.write_text("t" * 32 + "\n")
            with Service("--token-file", str(tokens), listen="0.0.0.0:0") as service:
                for path in [*paths, "/metrics"]:
                    with urllib.request.urlopen(service.url.replace("0.0.0.0", "127.0.0.1") + path) as answer:
                        self.assertEqual(answer.status, 200)

    def test_replicas_keep_nothing_of_their_own(self) -> None:
        found = {one["kind"]: one for one in documents("overlays/postgres")}
        self.assertEqual(found.keys(), {"Service", "Deployment", "PodDisruptionBudget"})
        spec = found["Deployment"]["spec"]
        self.assertGreater(spec["replicas"], 1)
        pod = spec["template"]["spec"]
        self.assertNotIn("persistentVolumeClaim", str(pod["volumes"]))
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        self.assertEqual(mounted, {volume["name"] for volume in pod["volumes"]})
        labels = spec["template"]["metadata"]["labels"]
        self.assertEqual(found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], labels)
        # The secret of docs/replicas.md names variables that the program or its libraries read.
        manual = run(program(), "serve", "--help").stdout
        named = re.findall(r"--from-literal=(\w+)=", (ROOT / "docs/replicas.md").read_text())
        for name in named:
            self.assertTrue(name.startswith("AWS_") or f"[env: {name}" in manual, name)
        self.assertIn("MOE_GPS_DATABASE", named)

    def test_what_selects_is_what_is_labelled(self) -> None:
        found = {one["kind"]: one for one in documents("overlays/monitored")}
        labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(found["Service"]["spec"]["selector"], labels)
        self.assertEqual(found["ServiceMonitor"]["spec"]["selector"]["matchLabels"], found["Service"]["metadata"]["labels"])


class Watching(unittest.TestCase):
    """Rules and dashboard."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.scratch = tempfile.TemporaryDirectory()
        cls.rules = Path(cls.scratch.name) / "rules.yaml"
        # The command of deploy/README.md.
        cls.rules.write_text(run("sed", "1,/^spec:/d; s/^  //", OPERATOR / "prometheusrule.yaml").stdout)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.scratch.cleanup()

    def test_rules_fire_when_they_should(self) -> None:
        whole = yaml.safe_load((OPERATOR / "prometheusrule.yaml").read_text())["spec"]
        self.assertEqual(yaml.safe_load(self.rules.read_text()), whole)
        shutil.copy(DEPLOY / "tests/rules.test.yaml", self.scratch.name)
        run(tool("promtool"), "check", "rules", self.rules)
        run(tool("promtool"), "test", "rules", Path(self.scratch.name) / "rules.test.yaml")
        tested = (DEPLOY / "tests/rules.test.yaml").read_text()
        untested = [rule["alert"] for rule in whole["groups"][0]["rules"] if rule["alert"] not in tested]
        self.assertEqual(untested, [])

    def test_queries_of_the_dashboard_can_be_read(self) -> None:
        rules = [{"record": f"panel:{index}", "expr": expr} for index, expr in enumerate(queries())]
        file = Path(self.scratch.name) / "queries.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        run(tool("promtool"), "check", "rules", file)

    def test_every_metric_and_label_is_on_the_metrics_page(self) -> None:
        with Service() as service:
            client = Client(service.url)
            # What is told of deployments has series once there is one that was judged.
            client.put_deployment("prod", json.loads((ROOT / "examples/questions/mixtral-h100.json").read_text()))
            client.post_loads("prod", ROOT / "examples/traces/mixtral_like_e8k2.python.test.npz")
            client.get_deployment("prod", wait_s=60)
            page = client.metrics()
        series: dict = {}
        for name, labels in re.findall(r"(?m)^(moe_gps_\w+)(?:\{(.*)\})? ", page):
            series.setdefault(name, []).append({**dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), "instance": "a"})
        rules = yaml.safe_load(self.rules.read_text())["groups"][0]["rules"]
        variables = [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
        unknown = []
        for expr in [*(rule["expr"] for rule in rules), *queries(), *variables]:
            self.assertRegex(expr, SELECTOR)
            for name, matchers in SELECTOR.findall(expr):
                wanted = re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', matchers)
                # Errors of its own are no series until there is one: that status must not be known yet.
                wanted = [(label, how, value) for label, how, value in wanted if (label, value) != ("status", "5..")]
                if not any(all(self.matches(labels.get(label, ""), how, value) for label, how, value in wanted) for labels in series.get(name, [])):
                    unknown.append(f"{name}{{{matchers}}} of {expr}")
            by = re.findall(r"by \(([^)]*)\)", expr)
            labels = {label.strip() for group in by for label in group.split(",")}
            known = set().union(*(one for name, _ in SELECTOR.findall(expr) for one in series.get(name, [{}])))
            unknown += [f"label {label} of {expr}" for label in labels - known]
        self.assertEqual(unknown, [])

    @staticmethod
    def matches(found: str, how: str, value: str) -> bool:
        same = re.fullmatch(value, found) is not None if "~" in how else found == value
        return same != how.startswith("!")


class Recorders(unittest.TestCase):
    """The recorders, with stand-ins for engines that answer as those do, and the real service."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.service = Service()
        self.addCleanup(self.service.stop)
        self.environment = {**os.environ, "MOE_GPS_URL": self.service.url}

    @contextlib.contextmanager
    def engine(self, answer):
        """A server whose POST of a path is answered by `answer(path, body)`."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def record(self, script: str, *arguments) -> str:
        done = run(sys.executable, DEPLOY / "record" / script, *arguments, env=self.environment)
        return done.stdout.strip()

    def sglang(self, files: list) -> tuple:
        """Records from a stand-in that dumps these fixtures."""
        (self.folder / "expert_distribution_recorder_1.0.pt").write_bytes(b"an earlier one")
        asked = []

        def answer(path: str, _: bytes) -> bytes:
            asked.append(path)
            if path.startswith("/dump"):
                for rank, file in enumerate(files):
                    shutil.copy(file, self.folder / f"expert_distribution_recorder_2.0_{rank}.pt")
            return b"done\n"

        with self.engine(answer) as url:
            trace = self.record("sglang.py", "--engine", url, "--seconds", "0.1", "--folder", self.folder)
        self.assertEqual(asked, [f"/{what}_expert_distribution_record" for what in ("start", "stop", "dump")])
        return Client(self.service.url).get_trace(trace)

    def test_a_dump_of_sglang(self) -> None:
        direct = Client(self.service.url).upload_trace(FIXTURES / "sglang_stat.pt")
        self.assertEqual(self.sglang([FIXTURES / "sglang_stat.pt"])["id"], direct["id"])

    def test_dumps_of_all_ranks_of_sglang(self) -> None:
        shutil.unpack_archive(FIXTURES / "sglang_per_pass.ranks.zip", self.folder / "ranks")
        direct = Client(self.service.url).upload_trace(FIXTURES / "sglang_per_pass.ranks.zip")
        ranks = sorted((self.folder / "ranks").rglob("*.pt"))
        self.assertGreater(len(ranks), 1)
        self.assertEqual(self.sglang(ranks)["skewness"], direct["skewness"])

    def test_routes_of_vllm(self) -> None:
        answers = (FIXTURES / "vllm_routes.json").read_bytes()
        prompts = self.folder / "prompts.txt"
        prompts.write_text("one\n\ntwo\n")
        asked = []

        def answer(path: str, body: bytes) -> bytes:
            asked.append((path, json.loads(body)["prompt"]))
            return answers

        arguments = ("--served-model", "m", "--prompts", prompts, "--max-tokens", "3", "--concurrency", "1")
        with self.engine(answer) as url:
            trace = Client(self.service.url).get_trace(self.record("vllm.py", "--engine", url, *arguments))
        one = Client(self.service.url).upload_trace(FIXTURES / "vllm_routes.json")
        self.assertEqual(asked, [("/v1/completions", "one"), ("/v1/completions", "two")])
        self.assertEqual((trace["sequences"], trace["tokens"]), (2 * one["sequences"], 2 * one["tokens"]))
        with self.engine(lambda *_: b'{"choices": [{"text": ""}]}') as url:
            refused = subprocess.run([sys.executable, DEPLOY / "record/vllm.py", "--engine", url, *map(str, arguments)], capture_output=True, text=True)
        self.assertIn("--enable-return-routed-experts", refused.stderr)
        self.assertEqual(refused.returncode, 1)

    def test_balancedness_from_a_log_of_vllm(self) -> None:
        log = self.folder / "vllm.log"
        log.write_text(
            "(EngineCore_DP0 pid=7) INFO 11-29 10:00:00 [eplb_state.py:600] EPLB step: 12 for model m: avg_tokens=100.00, max_tokens=200, "
            "balancedness=0.5000, steps until the next rearrangement: 988\n"
            "INFO something else\n"
            "INFO EPLB step: 13 for model m: avg_tokens=0.00, max_tokens=0, balancedness=0.0000, steps until the next rearrangement: 987\n"
            "INFO EPLB step: avg_tokens=700.00, max_tokens=800, balancedness=0.8750\n"
        )
        routing = json.loads(self.record("vllm.py", "--log", log, "--devices", 8))
        self.assertEqual(routing, {"balancedness": 0.8, "at_devices": 8})
        job = Client(self.service.url).recommend({**json.loads(QUESTION.read_text()), "routing": routing})
        self.assertEqual(job["status"], "succeeded")


class Batch(unittest.TestCase):
    """The script of Slurm, as a node runs it; `srun` stands for what it starts."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        srun = self.folder / "srun"
        srun.write_text('#!/bin/sh\nexec "$@"\n')
        srun.chmod(0o755)

    def batch(self, url: str, question: Path = QUESTION, **more: str) -> tuple:
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder), "SLURM_JOB_ID": "7",
                       "SLURM_JOB_USER": "ada", "SLURM_SUBMIT_DIR": str(self.folder), "MOE_GPS_URL": url,
                       "MOE_GPS_CLIENT": str(ROOT / "clients/python"), "MOE_GPS_TIME_LIMIT_S": "20", **more}  # fmt: skip
        engine = "import os, sys; print(sys.argv[1:], 'MOE_GPS_TOKEN' in os.environ)"
        done = run("bash", DEPLOY / "slurm/ask.sbatch", question, sys.executable, "-c", engine, "--own flag", env=environment)
        return done.stdout.strip(), done.stderr

    def test_the_engine_starts_as_advised_or_as_it_is(self) -> None:
        token = self.folder / ".moe-gps-token"
        token.write_text("t" * 32 + "\n")
        with Service("--token-file", str(token)) as service:
            started, told = self.batch(service.url)
            self.assertIn("['--own flag', '--", started)
            self.assertTrue(started.endswith("] False"), started)
            client = Client(service.url, "t" * 32)
            [item] = client.list_recommendations(label="slurm_job:7")
            self.assertEqual(item["labels"], {"slurm_job": "7", "user": "ada"})
            # A job that is requeued asks the same question.
            self.assertEqual(self.batch(service.url)[0], started)
            self.assertEqual(len(list(client.list_recommendations())), 1)
            question = self.folder / "broken.json"
            question.write_text('{"model": "mixtral-8x7b"}')
            started, told = self.batch(service.url, question, SLURM_JOB_ID="8")
            self.assertEqual(started, "['--own flag'] False")
            self.assertIn("`cluster` is missing", told)
        started, told = self.batch(service.url, MOE_GPS_TIME_LIMIT_S="1")
        self.assertEqual(started, "['--own flag'] False")
        self.assertIn("without advice", told)
        started, told = self.batch(service.url, MOE_GPS_CLIENT="/absent")
        self.assertEqual(started, "['--own flag'] False")
        self.assertIn("no answer", told)


class Container(unittest.TestCase):
    """Docker's files."""

    def test_compose_is_as_the_image_and_the_service_want_it(self) -> None:
        service = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["moe-gps"]
        manual = run(program(), "serve", "--help").stdout
        for name in service["environment"]:
            self.assertIn(f"[env: {name}=]", manual)
        for name in re.findall(r"MOE_GPS_\w+", (ROOT / "docker/Dockerfile").read_text()):
            self.assertIn(f"[env: {name}=]", manual)
        self.assertEqual(service["build"], {"context": "..", "dockerfile": "docker/Dockerfile"})


if __name__ == "__main__":
    unittest.main()
