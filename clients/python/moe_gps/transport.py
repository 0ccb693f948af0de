"""Requests over HTTP: the token, trying again, and refusals as exceptions."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any, BinaryIO, Mapping, Optional, Union

from .errors import Problem, Unreachable

# What passes: the holder's queue is full, the service or a proxy before it has no room or no service.
PASSING = (429, 502, 503, 504)
# Between two tries where the service names no time: doubled each time, up to the second.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
# Above the 90 s that the service gives a request by default (docs/operating.md).
REQUEST_TIMEOUT_S = 100.0

Body = Union[bytes, BinaryIO, None]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where there is none."""
        return json.loads(self.body) if self.body else None

    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a token must not travel to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Transport:
    """One service, one token."""

    def __init__(self, url: str, token: Optional[str], patience_s: float, timeout_s: float) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no address of a service; write http://HOST:PORT (or set MOE_GPS_URL)")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self.timeout_s = timeout_s
        self._headers = {"User-Agent": "moe-gps-python/0.1.0"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, method: str, path: str, *, query: Optional[Mapping[str, Any]] = None, body: Body = None,
             headers: Optional[Mapping[str, str]] = None, again: bool = True) -> Answer:  # fmt: skip
        """Sends a request, and again while what hinders it passes and patience lasts.

        `again=False` is for what must not happen twice: it is sent anew only after a refusal that did nothing.
        """
        target = self.url + path + _query(query)
        sent = {**self._headers, **(headers or {})}
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        if body is not None:
            sent["Content-Length"] = str(_length(body))
        began, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return self._once(method, target, body, sent)
            except Problem as problem:
                # A request that took too long (503 `not-ready`) or that a proxy gave up may have been carried out.
                passes = problem.status in PASSING and (again or problem.kind in ("queue-full", "too-many-queued"))
                failure: Exception = problem
                named = problem.retry_after_s
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                failure = Unreachable(f"{method} {target}: {reason}")
                failure.__cause__ = error
                passes, named = again, None
            # Clients that were refused together do not come back together.
            next_try = (named if named is not None else pause) * random.uniform(1.0, 1.25)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            if not passes or time.monotonic() - began + next_try > self.patience_s:
                raise failure
            time.sleep(next_try)
            if body is not None and not isinstance(body, bytes):
                body.seek(start)

    def _once(self, method: str, target: str, body: Body, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(target, data=body, headers=dict(headers), method=method)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _problem(error.code, error.headers, error.read()) from None


def _query(values: Optional[Mapping[str, Any]]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    kept = {name: text(value) for name, value in (values or {}).items() if value is not None}
    return "?" + urllib.parse.urlencode(kept) if kept else ""


def _length(body: Union[bytes, BinaryIO]) -> int:
    if isinstance(body, bytes):
        return len(body)
    here = body.tell()
    length = body.seek(0, io.SEEK_END) - here
    body.seek(here)
    return length


def _problem(status: int, headers: Message, body: bytes) -> Problem:
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        # A proxy's page, or a redirection.
        read = {"title": http.client.responses.get(status, "refused"), "detail": headers.get("Location") or body[:200].decode("utf-8", "replace")}
    retry_after = headers.get("Retry-After", "")
    return Problem(status, read, float(retry_after) if retry_after.isdigit() else None)


def path_of(*parts: str) -> str:
    """A path of the interface; every part is escaped."""
    return "/" + "/".join(urllib.parse.quote(part, safe="") for part in parts)


def file_name(source: Any) -> Optional[str]:
    """The name of a file that is given by its path or is open."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return os.path.basename(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else None
