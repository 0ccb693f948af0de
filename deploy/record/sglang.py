#!/usr/bin/env python3
"""Records the expert loads of a running SGLang server and posts them: start, sleep, stop, dump, post.

    python sglang.py --engine http://127.0.0.1:30000 --seconds 120 --model deepseek-v3

Run it on the host of the server, which writes its dumps there, while the traffic flows that you serve. The server is
started with `--expert-distribution-recorder-mode stat` (`stat` wants `--deepep-mode normal`, not `auto`); in the modes
`per_pass` and `per_token` every rank writes a file, and all of them must be in one folder. Prints the id of the trace,
which a question names as `{"routing": {"trace_id": ID}}`. The service is MOE_GPS_URL, the token MOE_GPS_TOKEN.
"""

import argparse
import io
import os
import sys
import tarfile
import time
import urllib.request
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


def main() -> None:
    """Reads the command line, records and posts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="http://127.0.0.1:30000", help="the server")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long is recorded")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR", "/tmp")))
    parser.add_argument("--model", help="the catalog's name of the model")
    parser.add_argument("--name", help="the name of the trace")
    options = parser.parse_args()
    before = set(options.folder.glob("expert_distribution_recorder_*.pt"))
    control(options.engine, "start")
    try:
        time.sleep(options.seconds)
    finally:
        # Also when it is interrupted: recording slows the server.
        control(options.engine, "stop")
    control(options.engine, "dump")
    files = dumps(options.folder, before)
    client = Client()
    if len(files) == 1:
        trace = client.upload_trace(files[0], model=options.model, name=options.name)
    else:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file in files:
                tar.add(file, arcname=file.name)
        archive.seek(0)
        trace = client.upload_trace(archive, model=options.model, name=options.name or files[0].stem, format="tar")
    for warning in trace["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(trace["id"])


if __name__ == "__main__":
    main()
