"""Asks a moe-gps service which strategy makes a mixture-of-experts deployment faster, and fetches placements."""

from . import models
from .client import Client
from .errors import JobEnded, MoeGpsError, Problem, TookTooLong, Unreachable

__all__ = ["Client", "JobEnded", "MoeGpsError", "Problem", "TookTooLong", "Unreachable", "models"]
