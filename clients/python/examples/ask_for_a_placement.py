#!/usr/bin/env python3
"""What a scheduler does before it starts an engine: upload a recording, ask, wait, fetch arguments and placement.

    python ask_for_a_placement.py --question question.json --trace recording.pt --into /shared/plan

prints a JSON array of the arguments that go after those of the engine, and writes into the folder `arguments` (each ended
by a NUL, for `mapfile -d ''`), `environment` (lines NAME=VALUE), and, where the engine takes one, `placement` and
`options.yaml`. The address and the token of the service are MOE_GPS_URL and MOE_GPS_TOKEN. Where there is no advice (the
service is away, the question is refused) there are no arguments and standard error says why: the engine starts anyway.
"""

import argparse
import json
import sys
from pathlib import Path

from moe_gps import Client, MoeGpsError
from moe_gps.models import Launch, Question


def say(text: str) -> None:
    """To people: standard output is for the launcher."""
    print(f"moe-gps: {text}", file=sys.stderr)


def question_of(options: argparse.Namespace, client: Client) -> Question:
    """The question of the file, about the recording and the engine of the command line."""
    question: Question = json.loads(options.question.read_text())
    if options.engine:
        question["engine"] = {**question.get("engine", {}), "name": options.engine}
    if options.trace:
        trace = client.upload_trace(options.trace, model=options.model)
        for warning in trace["warnings"]:
            say(f"warning: {warning}")
        question["routing"] = {"trace_id": trace["id"]}
    return question


def advice(options: argparse.Namespace) -> Launch:
    """Asks, and writes the files that the engine will look for."""
    client = Client(patience_s=options.time_limit_s)
    job = client.recommend(question_of(options, client), labels=dict(options.label), timeout_s=options.time_limit_s,
                           idempotency_key=options.key)  # fmt: skip
    result = job["result"]
    assert result is not None, "recommend() raises where there is no result"
    say(f"{job['id']}: {result['recommendation']['verdict']}: {result['recommendation']['reason']}")
    if options.sure and result["recommendation"]["verdict"] == "insufficient_evidence":
        raise MoeGpsError("the evidence does not suffice, and --sure was given")
    file: Path = (options.into / "placement").resolve()
    launch = client.get_launch(job["id"], path=options.mounted_at or str(file))
    for note in launch["notes"]:
        say(f"note: {note}")
    placement, yaml = launch.get("placement"), launch.get("yaml")
    if placement:
        # The form of the file is what its address ends in.
        file.write_bytes(client.get_placement_file(job["id"], placement["url"].partition("format=")[2]))
    if yaml:
        (options.into / "options.yaml").write_text(yaml)
    return launch


def main() -> None:
    """Reads the command line; an engine starts with or without advice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--question", type=Path, required=True, help="the question as JSON (docs/question.md)")
    parser.add_argument("--engine", help="the engine to be started, if not that of the question")
    parser.add_argument("--trace", type=Path, help="a recording of routing: a file, or the folder of all ranks")
    parser.add_argument("--model", help="the catalog's name of the recorded model, which says how many experts it has")
    parser.add_argument("--into", type=Path, default=Path("plan"), help="the folder that is written, where the engine can read it")
    parser.add_argument("--mounted-at", help="where the engine finds the placement, if not in that folder")
    parser.add_argument("--sure", action="store_true", help="no advice rather than one on insufficient evidence")
    parser.add_argument("--label", action="append", default=[], type=lambda text: text.split("=", 1), metavar="NAME=TEXT")
    parser.add_argument("--key", help="a name for this request, so that a job that is started again asks once")
    parser.add_argument("--time-limit-s", type=float, default=60.0, help="for the upload, and for the answer; then the engine starts without")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    for stale in ("placement", "options.yaml"):
        (options.into / stale).unlink(missing_ok=True)
    arguments, environment = [], {}
    try:
        launch = advice(options)
        arguments, environment = launch["argv"], launch["env"]
    except (MoeGpsError, OSError, ValueError) as error:
        say(f"starting without advice: {error}")
    (options.into / "arguments").write_bytes(b"".join(one.encode() + b"\0" for one in arguments))
    (options.into / "environment").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    print(json.dumps(arguments))


if __name__ == "__main__":
    main()
