#!/usr/bin/env python3
"""Records the expert loads of a running SGLang server and posts them: start, sleep, stop, dump, post.

    python sglang.py --engine http://127.0.0.1:30000 --seconds 120 --model deepseek-v3

Run it on the host of the server, which writes its dumps there, while the traffic flows that you serve. The server is
started with `--expert-distribution-recorder-mode stat` (`stat` wants `--deepep-mode normal`, not `auto`); in the modes
`per_pass` and `per_token` every rank writes a file, and all of them must be in one folder. Prints the id of the trace,
which a question names as `{"routing": {"trace_id": ID}}`. With `--deployment NAME` the recording is posted as loads of
that deployment, and with `--every SECONDS` again and again, until it is interrupted. The service is MOE_GPS_URL, the token
MOE_GPS_TOKEN.
"""

import argparse
import io
import os
import sys
import tarfile
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))
from moe_gps import Client  # noqa: E402

# A dump of all layers is written within seconds; what does not grow for this long is complete.
QUIET_S, LONGEST_DUMP_S = 2.0, 300.0


def control(engine: str, what: str) -> None:
    """One of the recorder's three requests."""
    request = urllib.request.Request(f"{engine.rstrip('/')}/{what}_expert_distribution_record", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=LONGEST_DUMP_S):
        print(f"{what}: done", file=sys.stderr)


def dumps(folder: Path, before: set) -> list:
    """The files that have come since, once all of them are complete."""
    deadline = time.monotonic() + LONGEST_DUMP_S
    seen: dict = {}
    while time.monotonic() < deadline:
        found = {path: path.stat().st_size for path in folder.glob("expert_distribution_recorder_*.pt") if path not in before}
        if found and found == seen:
            return sorted(found)
        seen = found
        time.sleep(QUIET_S)
    raise SystemExit(f"no dump has come into {folder}: is this the host of the server, and SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR its folder?")


def record(options: argparse.Namespace) -> tuple:
    """Records once: the recording, how its format is called, and when it began and ended, seconds since the epoch."""
    before = set(options.folder.glob("expert_distribution_recorder_*.pt"))
    began = time.time()
    control(options.engine, "start")
    try:
        time.sleep(options.seconds)
    finally:
        # Also when it is interrupted: recording slows the server.
        control(options.engine, "stop")
    ended = time.time()
    control(options.engine, "dump")
    files = dumps(options.folder, before)
    if len(files) == 1:
        return files[0], files[0].stem, None, (began, ended)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            tar.add(file, arcname=file.name)
    archive.seek(0)
    return archive, files[0].stem, "tar", (began, ended)


def moment(seconds: float) -> str:
    """A time as the service reads it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def post(client: Client, options: argparse.Namespace) -> None:
    """Records, and posts what was recorded."""
    source, stem, form, (began, ended) = record(options)
    if options.deployment:
        since, until = moment(began), moment(ended)
        window = client.post_loads(options.deployment, source, since=since, until=until, phase=options.phase, format=form)
        print(window["trace_id"], flush=True)
        return
    trace = client.upload_trace(source, model=options.model, name=options.name or (stem if form else None), format=form)
    for warning in trace["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(trace["id"])


def main() -> None:
    """Reads the command line, records and posts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="http://127.0.0.1:30000", help="the server")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long is recorded")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR", "/tmp")))
    parser.add_argument("--model", help="the catalog's name of the model")
    parser.add_argument("--name", help="the name of the trace")
    parser.add_argument("--deployment", help="the deployment whose loads these are")
    parser.add_argument("--phase", choices=["prefill", "decode"], help="the phase that the server runs, if it is one alone")
    parser.add_argument("--every", type=float, help="seconds from one recording to the next; without it there is one")
    options = parser.parse_args()
    if options.every is not None and not options.deployment:
        parser.error("--every needs --deployment: recordings of one trace after the other are loads of a deployment")
    client = Client()
    while True:
        began = time.monotonic()
        post(client, options)
        if options.every is None:
            return
        time.sleep(max(0.0, options.every - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
