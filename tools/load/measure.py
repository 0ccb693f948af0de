#!/usr/bin/env python3
"""Measures a service under load: questions, long polls, lists of a million recommendations, tokens.

    cargo build --release && tools/load/measure.py target/release/moe-gps [--rows 1000000] [--seconds 10]
        [--postgres postgres://moe@127.0.0.1:5432/postgres]

With --postgres only SQLite and PostgreSQL are compared, side by side; it needs psql.
Needs Python 3.10 or later and wrk (Debian's `wrk`), because a client in Python is slower than the service. Everything
happens in a temporary folder. One line of figures each.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
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


# Every client asks one question after the other: a new one each time where SEED is not nil. Refused, it asks at once again.
SCRIPT = """
local body, threads = [==[BODY]==], {}
function setup(thread) thread:set("place", #threads); table.insert(threads, thread) end
function init() asked, accepted, refused = 0, 0, 0 end
function request()
  asked = asked + 1
  local seed = SEED
  if seed == nil then return wrk.format("POST", nil, nil, body) end
  return wrk.format("POST", nil, nil, '{"seed": ' .. string.format("%d", seed) .. ", " .. body:sub(2))
end
function response(status)
  if status == 200 or status == 202 then accepted = accepted + 1 else refused = refused + 1 end
end
function done(summary, latency)
  local accepted, refused, errors = 0, 0, summary.errors
  for _, thread in ipairs(threads) do
    accepted, refused = accepted + thread:get("accepted"), refused + thread:get("refused")
  end
  print(string.format('\\n{"accepted": %d, "refused": %d, "broken": %d, "lasted_s": %f, "p50_ms": %f, "p99_ms": %f}',
    accepted, refused, errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def load(service, clients, seconds, new, headers=(), first=0):
    """What so many clients get in so many seconds, by wrk; the seeds of new questions begin at `first`."""
    script = SCRIPT.replace("BODY", json.dumps(CALIBRATED)).replace("SEED", f"{first} + place * 1e9 + asked" if new else "nil")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        named = [f"-H{name}: {value}" for name, value in (("Content-Type", "application/json"), *headers)]
        command = ["wrk", f"-t{min(2, clients)}", f"-c{clients}", f"-d{seconds}s", "--timeout", "90s", "-s", file.name, *named]
        out = subprocess.run([*command, f"http://{service.address}/v1/recommendations"], check=True,
                             capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


WAIT = [("Prefer", "wait=60")]


def questions(program, seconds):
    for clients in (4, 50, 1000):
        for name, headers in (("waiting", WAIT), ("not waiting", [])):
            with tempfile.TemporaryDirectory() as folder:
                service = Service(program, folder)
                early = []
                # The queue fills at first, which is no answer.
                timer = threading.Timer(seconds / 2, lambda: early.append(ended(service)))
                timer.start()
                got = load(service, clients, seconds, True, headers)
                (at, n, spent), (later, more, spent_later) = early[0], ended(service)
                service.stop()
            print(f"new questions, {clients} clients, {name}: {(more - n) / (later - at):.0f} answered/s in the second half, "
                  f"{1e3 * (spent_later - spent) / (more - n):.2f} ms of processor each, "
                  f"{got['accepted'] / got['lasted_s']:.0f} accepted/s, {got['refused']} refused, "
                  f"{got['broken']} broken, p50 {got['p50_ms']:.1f} ms, p99 {got['p99_ms']:.1f} ms", flush=True)


def ended(service):
    """When, how many questions have been answered until then, and what processor time the service has taken."""
    lines = service.get("/metrics")[1].decode().splitlines()
    count = next(line for line in lines if line.startswith('moe_gps_job_duration_seconds_count{outcome="succeeded"}'))
    ticks = pathlib.Path(f"/proc/{service.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return time.monotonic(), float(count.split()[-1]), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def repeated(program, seconds):
    """With and without a token by turns, so that what else the machine does is in both."""
    with tempfile.TemporaryDirectory() as open_folder, tempfile.TemporaryDirectory() as closed_folder:
        token = subprocess.run([program, "token", "create", "--data-dir", closed_folder, "--scope", "ask"],
                               check=True, capture_output=True, text=True).stdout.strip()
        services = {"without tokens": (Service(program, open_folder), []),
                    "with a token": (Service(program, closed_folder), [("Authorization", f"Bearer {token}")])}
        got = {name: [] for name in services}
        for _ in range(10):
            for name, (service, headers) in services.items():
                got[name].append(load(service, 50, max(1, seconds // 5), False, [*WAIT, *headers]))
        rates = {}
        for name, rounds in got.items():
            rates[name] = [one["accepted"] / one["lasted_s"] for one in rounds]
            print(f"repeated questions, 50 clients, {name}: {statistics.median(rates[name]):.0f}/s, "
                  f"p50 {statistics.median(one['p50_ms'] for one in rounds):.1f} ms")
        open_rates, closed_rates = rates.values()
        ratio = statistics.median(closed / opened for opened, closed in zip(open_rates, closed_rates))
        print(f"a token costs {100 * (1 - ratio):+.1f} % of the rate, median of ten pairs", flush=True)
        for service, _ in services.values():
            service.stop()


def engines(program, seconds, server):
    """New questions of 50 clients that wait: one process with SQLite, one and three with PostgreSQL, by turns."""
    rates = {"SQLite": [], "PostgreSQL": [], "PostgreSQL, three replicas": []}
    for turn in range(3):
        for name, got in rates.items():
            database, flags = f"load_{os.getpid()}_{turn}_{len(name)}", []
            if name != "SQLite":
                subprocess.run(["psql", "-q", server, "-c", f"create database {database}"], check=True)
                flags = ["--database", server.rsplit("/", 1)[0] + "/" + database]
            with contextlib.ExitStack() as stack:
                folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(3 if "three" in name else 1)]
                services = [Service(program, folder, *flags) for folder in folders]
                counted = []
                share = lambda n: counted.append(load(services[n], 50 // len(services), seconds, True, WAIT, n * 10**10))
                clients = [threading.Thread(target=share, args=[n]) for n in range(len(services))]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
                spent = sum(ended(service)[2] for service in services)
                for service in services:
                    service.stop()
            accepted = sum(one["accepted"] for one in counted)
            got.append((accepted / max(one["lasted_s"] for one in counted), 1e3 * spent / accepted))
    for name, got in rates.items():
        rate, spent = (statistics.median(column) for column in zip(*got))
        print(f"new questions, 50 clients that wait, {name}: {rate:.0f}/s, {spent:.2f} ms of processor each", flush=True)


def waiters(program, seconds):
    """A thousand clients wait for jobs of one worker; probes must answer meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(program, folder, "--workers", "1")
        loading = threading.Thread(target=lambda: load(service, 1000, seconds, True, WAIT))
        loading.start()
        probes = []
        while loading.is_alive():
            began = time.monotonic()
            status, _ = service.get("/livez")
            assert status == 200, status
            probes.append(time.monotonic() - began)
            time.sleep(0.05)
        print(f"1,000 waiting clients: /livez p50 {percentile(probes, .5):.1f} ms, worst {max(probes) * 1e3:.0f} ms", flush=True)
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
    parser.add_argument("--postgres")
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    if arguments.postgres:
        engines(program, arguments.seconds, arguments.postgres)
        return
    questions(program, arguments.seconds)
    repeated(program, arguments.seconds)
    waiters(program, arguments.seconds)
    if arguments.rows:
        rows(program, arguments.rows)


if __name__ == "__main__":
    main()
