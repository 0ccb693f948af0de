"""Every operation of the service as a method, named as in `openapi/operations.txt`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tarfile
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO, Iterator, Mapping, Optional, Sequence, Union

from .errors import JobEnded, TookTooLong
from .transport import REQUEST_TIMEOUT_S, Answer, Transport, file_name, path_of

if TYPE_CHECKING:
    from . import models as m

# The longest wait that the service grants one request (docs/api.md).
LONGEST_WAIT_S = 60
OPEN = ("queued", "running")

Source = Union[str, "os.PathLike[str]", bytes, BinaryIO]
Profile = Union[str, Mapping[str, Any], "os.PathLike[str]"]


class Client:
    """A service at `url`.

    `url` and `token` are `MOE_GPS_URL` (else `http://127.0.0.1:8080`) and `MOE_GPS_TOKEN` if left out. What passes, a
    full queue or a service that restarts, is tried again for `patience_s`, at the times that the service names.
    May be shared between threads.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, patience_s: float = 60.0,
                 timeout_s: float = REQUEST_TIMEOUT_S) -> None:  # fmt: skip
        url = url or os.environ.get("MOE_GPS_URL") or "http://127.0.0.1:8080"
        self._http = Transport(url, token or os.environ.get("MOE_GPS_TOKEN"), patience_s, timeout_s)

    # Questions

    def ask_recommendation(self, question: m.Question, *, labels: Optional[Mapping[str, str]] = None, wait_s: float = 0,
                           idempotency_key: Optional[str] = None) -> m.RecommendationJob:  # fmt: skip
        """Asks; the job may be queued, running or ended. With one key the same question is asked once, however often
        this is called; without, a key of this call keeps its own repetitions together."""
        body = dict(question) if labels is None else {**question, "labels": dict(labels)}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), **_prefer(wait_s)}
        return self._post("/v1/recommendations", body, headers)

    def wait(self, job: Union[str, m.RecommendationJob], timeout_s: float = 600.0) -> m.RecommendationJob:
        """The job once it has ended, whatever its end; `TookTooLong` if it has not after `timeout_s`."""
        id = job if isinstance(job, str) else job["id"]
        began = time.monotonic()
        while True:
            left = max(0.0, timeout_s - (time.monotonic() - began))
            found = self.get_recommendation(id, wait_s=min(LONGEST_WAIT_S, left))
            if found["status"] not in OPEN:
                return found
            # The service waits in whole seconds.
            if left < 1:
                raise TookTooLong(found)

    def recommend(self, question: m.Question, *, labels: Optional[Mapping[str, str]] = None, timeout_s: float = 600.0,
                  idempotency_key: Optional[str] = None) -> m.RecommendationJob:  # fmt: skip
        """Asks and waits: the job with its `result`, or `JobEnded` if it failed or was canceled."""
        began = time.monotonic()
        wait_s = min(LONGEST_WAIT_S, timeout_s)
        job = self.ask_recommendation(question, labels=labels, wait_s=wait_s, idempotency_key=idempotency_key)
        if job["status"] in OPEN:
            job = self.wait(job, timeout_s - (time.monotonic() - began))
        if job["status"] != "succeeded":
            raise JobEnded(job)
        return job

    def get_recommendation(self, id: str, *, wait_s: float = 0) -> m.RecommendationJob:
        """A job, waited for up to `wait_s` (at most 60)."""
        return self._get(path_of("v1", "recommendations", id), headers=_prefer(wait_s))

    def list_recommendations(self, **filters: Any) -> Iterator[m.RecommendationItem]:
        """One's own asks, newest first, over all pages; filters as in docs/api.md: `engine="vllm"`, `label="team:a"`, …"""
        return self._pages("/v1/recommendations", filters)

    def export_recommendations(self, form: str = "csv", **filters: Any) -> Iterator[str]:
        """The list as lines of a table (`csv`, with one head line) or of JSON (`ndjson`)."""
        accept = {"csv": "text/csv", "ndjson": "application/x-ndjson"}[form]
        path, query, head = "/v1/recommendations", filters, None
        while True:
            answer = self._http.send("GET", path, query=query, headers={"Accept": accept})
            lines = answer.text().splitlines()
            yield from lines[1:] if form == "csv" and lines[:1] == [head] else lines
            head = lines[0] if lines else None
            following = re.search(r'<([^>]*)>;\s*rel="?next', answer.headers.get("Link", ""))
            if following is None:
                return
            path, query = following.group(1), {}

    def compare_recommendations(self, a: str, b: str) -> m.Comparison:
        """Where two answers differ: the questions, every term, what is advised."""
        return self._get("/v1/recommendations/compare", {"a": a, "b": b})

    def put_labels(self, id: str, labels: Mapping[str, str]) -> m.Labels:
        """Replaces the labels of one's own ask."""
        return self._json("PUT", path_of("v1", "recommendations", id, "labels"), dict(labels))

    def delete_recommendation(self, id: str) -> Optional[m.RecommendationJob]:
        """Withdraws one's own ask; the job where that canceled it."""
        return self._http.send("DELETE", path_of("v1", "recommendations", id)).json()

    def delete_recommendations(self, **filters: Any) -> Any:
        """Withdraws all of one's own asks that `list_recommendations` with the same filters shows."""
        return self._http.send("DELETE", "/v1/recommendations", query=filters).json()

    # What to do with an answer

    def get_launch(self, id: str, *, engine: Optional[str] = None, path: Optional[str] = None) -> m.Launch:
        """How to start an engine so that it follows the answer: arguments, environment, the placement to mount.
        `path` is where the engine will find its file."""
        return self._get(path_of("v1", "recommendations", id, "launch"), {"engine": engine, "path": path})

    def get_placement(self, id: str) -> m.Placement:
        """The plan: a slot map for every layer, replicas, moves, and what each engine does with it."""
        return self._get(path_of("v1", "recommendations", id, "placement"))

    def get_placement_file(self, id: str, format: str) -> bytes:
        """The plan as the file of an engine: `sglang`, `trtllm` or `vllm_ascend`."""
        return self._http.send("GET", path_of("v1", "recommendations", id, "placement"), query={"format": format}).body

    def get_step_times(self, id: str, sequences: Sequence[int], *, tokens: Sequence[int] = (), kv: Sequence[int] = ()) -> str:
        """Step times of every strategy as a CSV table, for serving simulators."""
        query = {"sequences": sequences, "tokens": tokens or None, "kv": kv or None}
        return self._http.send("GET", path_of("v1", "recommendations", id, "step-times"), query=query).text()

    def report_outcome(self, id: str, strategy: str, *, tpot_s: Optional[float] = None, step_s: Optional[float] = None,
                     steps: Optional[int] = None, note: Optional[str] = None) -> m.MeasuredOutcome:  # fmt: skip
        """Reports what the engine measured under a strategy: the time between tokens, or of a step."""
        given = {"strategy": strategy, "tpot_s": tpot_s, "step_s": step_s, "steps": steps, "note": note}
        body = {name: value for name, value in given.items() if value is not None}
        return self._post(path_of("v1", "recommendations", id, "outcomes"), body, again=False)

    def sweep(self, question: m.Question, axes: Sequence[m.SweepAxis]) -> m.SweepAnswer:
        """Which strategy wins over a grid of one or two quantities."""
        return self._post("/v1/sweeps", {"question": question, "axes": list(axes)})

    # Recordings of routing

    def upload_trace(self, source: Source, *, name: Optional[str] = None, model: Optional[str] = None, format: Optional[str] = None,
                     num_experts: Optional[int] = None, top_k: Optional[int] = None, skip: Optional[int] = None,
                     drop_repeats: Optional[bool] = None) -> m.TraceSummary:  # fmt: skip
        """Uploads a recording: a file, a folder (the dumps of all ranks), bytes or an open file. The same bytes are the
        same trace, so that it may be sent again."""
        name = name or file_name(source)
        with _recording(source, format) as (body, found):
            query = {"name": name, "model": model, "format": found, "num_experts": num_experts, "top_k": top_k,
                     "skip": skip, "drop_repeats": drop_repeats}  # fmt: skip
            return self._http.send("POST", "/v1/traces", query=query, body=body, headers=_BINARY).json()

    def list_traces(self) -> Iterator[m.TraceSummary]:
        """All recordings, over all pages."""
        return self._pages("/v1/traces", {})

    def get_trace(self, id: str) -> m.TraceSummary:
        """What a recording holds."""
        return self._get(path_of("v1", "traces", id))

    def delete_trace(self, id: str) -> None:
        """Deletes a recording (scope `admin`)."""
        self._http.send("DELETE", path_of("v1", "traces", id))

    def put_embedding(self, id: str, source: Source) -> None:
        """Keeps a token embedding (`.npy`) beside a recording."""
        with _opened(source) as body:
            self._http.send("PUT", path_of("v1", "traces", id, "embedding"), body=body, headers=_BINARY)

    def get_report(self, id: str, devices: int, *, tokens_per_step: Optional[int] = None) -> m.TraceReport:
        """Imbalance, the ceiling of balancing and drift of a recording on so many devices."""
        return self._report(id, devices, tokens_per_step, "json").json()

    def get_report_page(self, id: str, devices: int, *, tokens_per_step: Optional[int] = None) -> str:
        """The same as a web page that needs nothing else."""
        return self._report(id, devices, tokens_per_step, "html").text()

    # Deployments that are watched

    def put_deployment(self, name: str, question: Mapping[str, Any], *, current: Optional[Mapping[str, Any]] = None,
                       policy: Optional[Mapping[str, Any]] = None, labels: Optional[Mapping[str, str]] = None) -> m.Deployment:  # fmt: skip
        """Tells what a deployment is: a question without `routing`, the map in force, when a change is to be said
        (`{"min_gain": 0.05, "for": "30m", "every": "1m"}`). A new version each time; without `current` the map that is
        known stays."""
        given = {"question": dict(question), "current": current, "policy": policy, "labels": labels}
        body = {field: value for field, value in given.items() if value is not None}
        return self._json("PUT", path_of("v1", "deployments", name), body)

    def get_deployment(self, name: str, *, wait_s: float = 0) -> m.Deployment:
        """A deployment with its conditions; with `wait_s` (at most 60) once nothing of it waits to be judged."""
        return self._get(path_of("v1", "deployments", name), headers=_prefer(wait_s))

    def list_deployments(self) -> m.DeploymentList:
        """One's own deployments; with the scope `admin`, all."""
        return self._get("/v1/deployments")

    def post_loads(self, name: str, source: Source, *, since: Optional[str] = None, until: Optional[str] = None,
                   phase: Optional[str] = None, format: Optional[str] = None) -> m.LoadsWindow:  # fmt: skip
        """Posts the loads of a window of time, a recording as for `upload_trace`; `since` and `until` are RFC 3339.
        The same bytes are the same window, so that it may be sent again."""
        with _recording(source, format) as (body, found):
            query = {"from": since, "to": until, "phase": phase, "format": found}
            path = path_of("v1", "deployments", name, "loads")
            return self._http.send("POST", path, query=query, body=body, headers=_BINARY).json()

    def put_current(self, name: str, current: Union[Mapping[str, Any], Source]) -> m.Deployment:
        """Tells which map is in force: `{"strategy": …, "physical_to_logical": …}`, or a placement file of any engine."""
        path = path_of("v1", "deployments", name, "current")
        if isinstance(current, Mapping):
            return self._json("PUT", path, dict(current))
        with _opened(current) as body:
            return self._http.send("PUT", path, body=body, headers=_BINARY).json()

    def list_judgements(self, name: str) -> Iterator[m.Judgement]:
        """What was found of the map in force, newest first, over all pages; the `id` of each is a recommendation."""
        return self._pages(path_of("v1", "deployments", name, "judgements"), {})

    def delete_deployment(self, name: str) -> None:
        """Deletes a deployment with its loads; what was recommended stays."""
        self._http.send("DELETE", path_of("v1", "deployments", name))

    # Devices, models, links

    def list_devices(self) -> m.DeviceList:
        """Shipped and registered devices."""
        return self._get("/v1/devices")

    def get_device(self, id: str) -> m.Device:
        """A device."""
        return self._get(path_of("v1", "devices", id))

    def register_device(self, profile: Profile) -> m.Device:
        """Registers a device profile: its fields, the text of a TOML file, or the path of one (scope `admin`)."""
        return self._register("/v1/devices", profile)

    def delete_device(self, id: str) -> None:
        """Deletes a registered device (scope `admin`)."""
        self._http.send("DELETE", path_of("v1", "devices", id))

    def list_models(self) -> m.ModelList:
        """Shipped and registered models."""
        return self._get("/v1/models")

    def get_model(self, id: str) -> m.Model:
        """A model."""
        return self._get(path_of("v1", "models", id))

    def register_model(self, model: Profile) -> m.Model:
        """Registers a model: `{"id": …, "config": {…}}`, the text of a TOML file, or the path of one (scope `admin`)."""
        return self._register("/v1/models", model)

    def delete_model(self, id: str) -> None:
        """Deletes a registered model (scope `admin`)."""
        self._http.send("DELETE", path_of("v1", "models", id))

    def list_links(self) -> m.LinkList:
        """Shipped links."""
        return self._get("/v1/links")

    def get_link(self, id: str) -> m.Link:
        """A link."""
        return self._get(path_of("v1", "links", id))

    # The service itself

    def livez(self) -> m.Health:
        """Whether the process is alive."""
        return self._get("/livez", again=False)

    def readyz(self) -> m.Health:
        """Whether the service is ready; `Problem` with status 503 if it is not."""
        return self._get("/readyz", again=False)

    def metrics(self) -> str:
        """The metrics in the form of Prometheus."""
        return self._http.send("GET", "/metrics").text()

    def _get(self, path: str, query: Optional[Mapping[str, Any]] = None, headers: Optional[Mapping[str, str]] = None, again: bool = True) -> Any:
        return self._http.send("GET", path, query=query, headers=headers, again=again).json()

    def _json(self, method: str, path: str, body: Any, headers: Optional[Mapping[str, str]] = None, again: bool = True) -> Any:
        typed = {"Content-Type": "application/json", **(headers or {})}
        return self._http.send(method, path, body=json.dumps(body).encode(), headers=typed, again=again).json()

    def _post(self, path: str, body: Any, headers: Optional[Mapping[str, str]] = None, again: bool = True) -> Any:
        return self._json("POST", path, body, headers, again)

    def _pages(self, path: str, filters: Mapping[str, Any]) -> Iterator[Any]:
        cursor = None
        while True:
            page = self._get(path, {**filters, "cursor": cursor} if cursor else filters)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def _report(self, id: str, devices: int, tokens_per_step: Optional[int], form: str) -> Answer:
        query = {"devices": devices, "tokens_per_step": tokens_per_step, "format": form}
        return self._http.send("GET", path_of("v1", "traces", id, "report"), query=query)

    def _register(self, path: str, entry: Profile) -> Any:
        if isinstance(entry, Mapping):
            return self._post(path, entry)
        kind = "application/toml"
        if not isinstance(entry, str):
            kind = "application/json" if os.fspath(entry).endswith(".json") else kind
            with open(entry, encoding="utf-8") as file:
                entry = file.read()
        return self._http.send("POST", path, body=entry.encode(), headers={"Content-Type": kind}).json()


_BINARY = {"Content-Type": "application/octet-stream"}


def _prefer(wait_s: float) -> dict[str, str]:
    return {"Prefer": f"wait={min(LONGEST_WAIT_S, int(wait_s))}"} if wait_s >= 1 else {}


def _format_of(name: Optional[str]) -> Optional[str]:
    """The end of a file's name, before that of its compression, which the service finds by itself."""
    plain = re.sub(r"\.(gz|zst)$", "", name or "")
    return os.path.splitext(plain)[1][1:] or None


@contextlib.contextmanager
def _recording(source: Source, format: Optional[str]) -> Iterator[tuple[Union[bytes, BinaryIO], Optional[str]]]:
    """A recording with the name of its format, where that is stated or told by the name of the file."""
    is_folder = isinstance(source, (str, os.PathLike)) and os.path.isdir(source)
    with _opened(source) as body:
        yield body, format or ("tar" if is_folder else _format_of(file_name(source)))


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Union[bytes, BinaryIO]]:
    if not isinstance(source, (str, os.PathLike)):
        yield source
    elif os.path.isdir(source):
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for entry in sorted(os.listdir(source)):
                    tar.add(os.path.join(source, entry), arcname=entry)
            archive.seek(0)
            yield archive
    else:
        with open(source, "rb") as file:
            yield file
