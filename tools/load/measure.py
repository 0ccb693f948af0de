#!/usr/bin/env python3
"""Measures a service under load: questions, long polls, lists of a million recommendations, tokens.

    cargo build --release && tools/load/measure.py target/release/moe-gps [--rows 1000000] [--seconds 10]

Needs Python 3.10 or later and nothing else; where `wrk` is installed, repeated questions are measured with it, because a
client in Python is slower than the service. Everything happens in a temporary folder. One line of figures each.
"""

import argparse
import http.client
import itertools
import json
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
QUESTION = json.loads((REPOSITORY / "examples/questions/paper-mixtral-a100.json").read_text())
# Without flip points, by the calibrated laws: what most ask.
CALIBRATED = {name: QUESTION[name] for name in ("model", "cluster", "workload", "routing", "predictors")}
CALIBRATED |= {"assumptions": {"preset": "calibrated"}, "flip_points": False}


class Service:
    def __init__(self, program, folder, *flags):
        self.folder = pathlib.Path(folder)
        (self.folder / "address").unlink(missing_ok=True)
        began = time.monotonic()
        command = [program, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder, "--log", "warn", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (self.folder / "address").exists():
            if self.process.poll() is not None:
                sys.exit("the service ended at start")
            time.sleep(0.002)
        self.address = (self.folder / "address").read_text().strip()
        while self.get("/readyz")[0] != 200:
            time.sleep(0.002)
        self.ready_s = time.monotonic() - began

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=120)

    def get(self, path, token=None):
        connection = self.connect()
        return send(connection, "GET", path, None, {"Authorization": f"Bearer {token}"} if token else {})

    def stop(self):
        self.process.terminate()
        self.process.wait()


def send(connection, method, path, body, headers):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] * 1e3 if times else float("nan")


def ask(service, clients, seconds, headers, make, retry=False):
    """So many clients ask one question after the other; times of those that succeed, and refusals."""
    stop, times, refused, lock = time.monotonic() + seconds, [], [0], threading.Lock()

    def client():
        connection, own, no = service.connect(), [], 0
        while time.monotonic() < stop:
            body = json.dumps(make())
            began = time.monotonic()
            try:
                status, _ = send(connection, "POST", "/v1/recommendations", body, headers)
            except OSError:
                connection = service.connect()
                no += 1
                continue
            if status in (200, 202):
                own.append(time.monotonic() - began)
            else:
                no += 1
                if not retry:
                    time.sleep(0.01)
        with lock:
            times.extend(own)
            refused[0] += no

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, refused[0]


def questions(program, seconds):
    numbers = itertools.count()

    def new():
        return {**CALIBRATED, "seed": next(numbers)}

    wait = {"Content-Type": "application/json", "Prefer": "wait=60"}
    no_wait = {"Content-Type": "application/json"}
    for clients in (4, 50, 1000):
        for name, headers in (("waiting", wait), ("not waiting", no_wait)):
            with tempfile.TemporaryDirectory() as folder:
                service = Service(program, folder)
                began = time.monotonic()
                times, refused = ask(service, clients, seconds, headers, new, retry=True)
                lasted = time.monotonic() - began
                ended = json.loads(service.get("/v1/recommendations?limit=1")[1])
                metrics = service.get("/metrics")[1].decode()
                service.stop()
            done = next(line for line in metrics.splitlines() if 'moe_gps_jobs{status="succeeded"}' in line)
            print(f"new questions, {clients} clients, {name}: {len(times) / lasted:.0f} accepted/s, "
                  f"{float(done.split()[-1]) / lasted:.0f} answered/s, {refused} refused, "
                  f"p50 {percentile(times, .5):.1f} ms, p99 {percentile(times, .99):.1f} ms", flush=True)
            assert ended["items"]


def repeated(program, seconds):
    with tempfile.TemporaryDirectory() as folder:
        service = Service(program, folder)
        body = json.dumps(CALIBRATED)
        headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
        send(service.connect(), "POST", "/v1/recommendations", body, headers)
        token = subprocess.run([program, "token", "create", "--data-dir", folder, "--scope", "ask"],
                               check=True, capture_output=True, text=True).stdout.strip()
        service.stop()
        for name, flags in (("without tokens", ["--insecure-no-auth"]), ("with a token", [])):
            service = Service(program, folder, *flags)
            if shutil.which("wrk"):
                script = pathlib.Path(folder) / "ask.lua"
                script.write_text(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n'
                                  'wrk.headers["Content-Type"] = "application/json"\n'
                                  f'wrk.headers["Authorization"] = "Bearer {token}"\n')
                out = subprocess.run(["wrk", "-t2", "-c50", f"-d{seconds}s", "--latency", "-s", script,
                                      f"http://{service.address}/v1/recommendations"],
                                     check=True, capture_output=True, text=True).stdout
                figures = [line.strip() for line in out.splitlines() if "Requests/sec" in line or "50%" in line]
                print(f"repeated questions, 50 clients, {name}: {'; '.join(figures)} (wrk)", flush=True)
            else:
                headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
                times, _ = ask(service, 50, seconds, headers, lambda: CALIBRATED)
                print(f"repeated questions, 50 clients, {name}: {len(times) / seconds:.0f}/s, "
                      f"p50 {percentile(times, .5):.1f} ms (Python)", flush=True)
            service.stop()


def waiters(program):
    """A thousand clients wait for jobs of one worker; probes must answer meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(program, folder, "--workers", "1")
        numbers = itertools.count()
        headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
        loading = threading.Thread(target=lambda: ask(
            service, 1100, 10, headers, lambda: {**CALIBRATED, "seed": next(numbers)}))
        loading.start()
        probes = []
        while loading.is_alive():
            began = time.monotonic()
            status, _ = service.get("/livez")
            assert status == 200, status
            probes.append(time.monotonic() - began)
            time.sleep(0.05)
        print(f"1,100 waiting clients: /livez p50 {percentile(probes, .5):.1f} ms, worst {max(probes) * 1e3:.0f} ms",
              flush=True)
        service.stop()


def rows(program, count):
    """Lists, metrics and restart over a database of so many recommendations with short answers."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(program, folder)
        headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
        send(service.connect(), "POST", "/v1/recommendations", json.dumps(CALIBRATED), headers)
        service.stop()
        fill(pathlib.Path(folder) / "moe-gps.db", count)
        size = (pathlib.Path(folder) / "moe-gps.db").stat().st_size
        print(f"{count} recommendations, {size / 1e9:.2f} GB of database", flush=True)
        service = Service(program, folder)
        print(f"ready after {service.ready_s * 1e3:.0f} ms")
        for path in ("/v1/recommendations", "/v1/recommendations?status=failed", "/v1/recommendations?status=queued",
                     "/v1/recommendations?model=olmoe-1b-7b", "/v1/recommendations?strategy=token_to_expert",
                     "/v1/recommendations?label=team:x", "/v1/recommendations?q=nothing", "/metrics"):
            times, first = [], None
            for _ in range(20):
                began = time.monotonic()
                status, _ = service.get(path)
                assert status == 200, (path, status)
                times.append(time.monotonic() - began)
                first = first or times[0]
            print(f"{path}: first {first * 1e3:.1f} ms, median {statistics.median(times) * 1e3:.1f} ms", flush=True)
        service.stop()


def fill(file, count):
    """Copies the one recommendation with short texts, under ids of a year's milliseconds."""
    database = sqlite3.connect(file)
    own = {"id": "id", "digest": "randomblob(32)", "request": "'{}'", "result": "'{}'", "placement": "null"}
    own |= {f"{name}_crc": "null" for name in ("request", "result", "placement")}

    def copy(table, changed):
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        values = ", ".join(changed.get(name, f"one.{name}") for name in columns)
        database.execute(f"insert into {table} select {values} from made, (select * from {table} limit 1) as one")

    database.execute("create temp table made (n integer primary key, id text)")
    made = (f"{0x18f000000000 + 31_000 * n:012x}" for n in range(count))
    database.executemany("insert into made (id) values (?)",
                         ((f"{hex[:8]}-{hex[8:]}-7000-8000-000000000000",) for hex in made))
    copy("recommendation", {**own, "id": "made.id"})
    copy("ask", {"id": "made.id", "recommendation_id": "made.id"})
    database.commit()
    database.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    rows(program, arguments.rows)
    questions(program, arguments.seconds)
    repeated(program, arguments.seconds)
    waiters(program)


if __name__ == "__main__":
    main()
