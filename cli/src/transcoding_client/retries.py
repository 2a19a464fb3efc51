"""When a request is sent again."""

from __future__ import annotations

import random

import httpx

#: How often a request is sent at the most.
TRIES = 5
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 8.0
_LATER = frozenset({408, 429, 500, 502, 503, 504})


def is_worth_repeating(response: httpx.Response) -> bool:
    """Tell whether the same request may be answered better a little later."""
    return response.status_code in _LATER


def seconds_before(retry: int, response: httpx.Response | None = None) -> float:
    """Return how long to wait before a retry, from number 1: up to twice as long each time, at random.

    So the clients that were turned away together do not come back together:
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (At least as long as
    the server asks for in whole seconds, within reason.)
    """
    # Not a secret.
    seconds = random.uniform(0, min(_FIRST_SECONDS * 2**retry, _MOST_SECONDS))  # noqa: S311
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return max(seconds, min(float(asked), _MOST_SECONDS)) if asked.isdecimal() else seconds
