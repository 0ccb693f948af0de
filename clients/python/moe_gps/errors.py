"""What can go wrong, one class for each thing that a caller does differently about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional

if TYPE_CHECKING:
    from .models import RecommendationJob, Violation


class MoeGpsError(Exception):
    """Any failure of this package."""


class Unreachable(MoeGpsError):
    """No answer came: wrong address, the service is away, or the connection broke."""


class TookTooLong(MoeGpsError):
    """A job has not ended within the time that the caller gave it; it goes on, and can be waited for again."""

    def __init__(self, job: RecommendationJob) -> None:
        self.job = job
        super().__init__(f"recommendation {job['id']} is still {job['status']}")


class Problem(MoeGpsError):
    """The service refused a request (RFC 9457); `violations` say which part of it and why."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after_s: Optional[float] = None) -> None:
        self.status = status
        self.type: str = body.get("type", "about:blank")
        self.title: str = body.get("title", "")
        self.detail: str = body.get("detail") or ""
        self.request_id: Optional[str] = body.get("request_id")
        self.violations: list[Violation] = body.get("violations") or []
        self.retry_after_s = retry_after_s
        super().__init__(str(self))

    @property
    def kind(self) -> str:
        """The end of `type`: `not-found`, `invalid-question`, …; the table is in docs/api.md."""
        return self.type.rpartition(":")[2]

    @property
    def pointers(self) -> list[str]:
        """The JSON pointers of the parts that are refused."""
        return [violation["pointer"] for violation in self.violations]

    def __str__(self) -> str:
        head = f"{self.status} {self.title}: {self.detail}" if self.detail else f"{self.status} {self.title}"
        return "\n".join([head, *(f"  {one['pointer'] or '/'}: {one['detail']}" for one in self.violations)])


class JobEnded(Problem):
    """A job ended without a recommendation: it failed or was canceled."""

    def __init__(self, job: RecommendationJob) -> None:
        self.job = job
        error: Mapping[str, Any] = job.get("error") or {"title": job["status"], "detail": f"recommendation {job['id']}"}
        super().__init__(error.get("status", 0), error)
