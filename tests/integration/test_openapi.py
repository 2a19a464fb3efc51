"""What docs/openapi.json promises, tried on the running stack with all sorts of right and wrong requests."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, settings

from local.stack import Stack

schema = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.json")


# About 100 ms a request, and the calls take their turns: less than three minutes.
@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_is_as_it_is_described(case: schemathesis.Case, stack: Stack) -> None:
    case.call_and_validate(base_url=stack["api_url"], headers={"x-api-key": stack["api_key"]})
