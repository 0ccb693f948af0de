#!/usr/bin/env python3
"""Records the routes of requests to a running vLLM server and posts them, or reads its log where it gives no routes.

    python vllm.py --engine http://127.0.0.1:8000 --served-model MODEL --prompts prompts.txt --model qwen3-235b-a22b
    python vllm.py --log vllm.log --devices 16

The first needs a server started with `--enable-return-routed-experts`. It sends every line of the file as a prompt (take
them from the traffic that you serve; a few made-up ones say nothing), keeps the answers and prints the id of the trace. vLLM
refuses that flag, or returns nothing, under pipeline parallelism, under decode or prefill context parallelism above 1, with
some KV connectors, without prefix caching, with the first model runner, and through its Rust front end: record on a
deployment without these, since routing depends on the model and the prompts, not on how it is spread.

The second is for a server that cannot be changed so: started with `--enable-eplb --eplb-config '{"log_balancedness": true}'`
it logs one figure, which is printed as the `routing` of a question, with the GPUs of the server over which its experts
are spread. It says less than a recording: no placement comes of it.
"""

import argparse
import concurrent.futures
import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))
from moe_gps import Client  # noqa: E402

STEP = re.compile(r"EPLB step.*?avg_tokens=([0-9.]+), max_tokens=([0-9.]+), balancedness=")


def balancedness(log: Path) -> float:
    """Mean over maximum tokens of a rank, over all steps that are logged: steps with more tokens count for more."""
    with open(log, encoding="utf-8", errors="replace") as lines:
        steps = [tuple(map(float, found.groups())) for found in map(STEP.search, lines) if found]
    busiest = sum(maximum for _, maximum in steps)
    if not busiest:
        raise SystemExit(f"{log} has no line of a step with tokens: start vLLM with log_balancedness in --eplb-config")
    print(f"{len(steps)} steps", file=sys.stderr)
    return sum(mean for mean, _ in steps) / busiest


def ask(options: argparse.Namespace, prompt: str) -> str:
    """The answer to a prompt, on one line, with its routes."""
    body = {"model": options.served_model, "prompt": prompt, "max_tokens": options.max_tokens}
    request = urllib.request.Request(f"{options.engine.rstrip('/')}/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=options.time_limit_s) as answer:
            read = json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{request.full_url}: {error.code} {error.read(500).decode('utf-8', 'replace')}") from None
    if not all(choice.get("routed_experts") for choice in read["choices"]):
        raise SystemExit("the answer holds no routed_experts: start vLLM with --enable-return-routed-experts (--help says what excludes it)")
    return json.dumps(read)


def main() -> None:
    """Reads the command line, records and posts, or reads a log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--prompts", type=Path, help="a file with a prompt a line")
    how.add_argument("--log", type=Path, help="the log of a server with log_balancedness")
    parser.add_argument("--devices", type=int, help="with --log: over how many GPUs the experts of the server are spread")
    parser.add_argument("--engine", default="http://127.0.0.1:8000", help="the server")
    parser.add_argument("--served-model", help="the name under which it serves the model")
    parser.add_argument("--max-tokens", type=int, default=128, help="output of every request")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at once")
    parser.add_argument("--time-limit-s", type=float, default=600.0, help="of one request")
    parser.add_argument("--model", help="the catalog's name of the model")
    parser.add_argument("--name", help="the name of the trace")
    parser.add_argument("--deployment", help="the deployment whose loads these are")
    parser.add_argument("--phase", choices=["prefill", "decode"], help="the phase that is recorded, if it is one alone")
    options = parser.parse_args()
    if options.log:
        if options.devices is None:
            parser.error("--log needs --devices: a figure of two GPUs means another skew than one of sixty-four")
        print(json.dumps({"balancedness": round(balancedness(options.log), 4), "at_devices": options.devices}))
        return
    prompts = [line for line in options.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    with tempfile.TemporaryFile() as answers:
        with concurrent.futures.ThreadPoolExecutor(options.concurrency) as pool:
            for answer in pool.map(lambda prompt: ask(options, prompt), prompts):
                answers.write(answer.encode() + b"\n")
        answers.seek(0)
        if options.deployment:
            print(Client().post_loads(options.deployment, answers, phase=options.phase, format="jsonl")["trace_id"])
            return
        trace = Client().upload_trace(answers, model=options.model, name=options.name or options.prompts.stem, format="jsonl")
    for warning in trace["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(trace["id"])


if __name__ == "__main__":
    main()
