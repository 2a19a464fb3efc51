"""What all API functions share: how a request is read, and which response a result or an error becomes.

API Gateway invokes each function with proxy events of its one route:
https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html

It does what Powertools' resolver with validation does for one route, without the time that the import of that
and of pydantic takes, which is more than all else that the functions import beside botocore.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import Answer, Refusal
from transcoding.api.parameters import Body, Parameter, RefusedError
from transcoding.errors import ApiError, UnavailableError

PREFIX = "/transcoding/api"

logger = Logger(child=True)

COMMON_REFUSALS = {
    403: "The API key is missing or wrong",
    429: "Too many requests",
    500: "The service failed",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """A call of the API: its route, what it takes, and what it answers.

    `function` gets the parameters by name and returns the body of the response. `unavailable` is the end of
    the message where a backing service is not available: what the call may have done all the same, and
    whether it may be repeated. The OpenAPI description also shows `id`, `summary`, `description` and, by HTTP
    status, what `refusals` mean.
    """

    method: str
    path: str
    function: Callable[..., Answer]
    id: str
    summary: str
    description: str
    refusals: Mapping[int, str]
    unavailable: str
    body: Body | None = None
    query: Sequence[Parameter] = ()
    headers: Sequence[Parameter] = ()
    max_body_bytes: int = 64 * 1024

    def answer(self, event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Return the response to an API Gateway proxy event, as the Lambda proxy integration expects it."""
        body: Answer | Refusal
        try:
            status, body = 200, self.function(**self._arguments(event))
        except Exception as error:
            status, msg = self._refuse(error, context)
            body = {"errcode": 1000 + status, "msg": msg}
        return {
            "statusCode": status,
            "multiValueHeaders": {
                "Content-Type": ["application/json; charset=utf-8"],
                "Cache-Control": ["no-store"],
            },
            "body": _serialize(body),
            "isBase64Encoded": False,
        }

    def _arguments(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the valid values of the parameters. Raises ApiError, with all that is wrong with them."""
        method, path = event["httpMethod"].upper(), event["path"]
        # API Gateway passes on a path with a slash at its end as it is.
        if (method, path.rstrip("/")) != (self.method, self.path):
            raise ApiError(404, f"no such route: {method} {path}")
        given = [(self.query, _single(event.get("multiValueQueryStringParameters")))]
        headers = _single(event.get("multiValueHeaders"))
        given.append((self.headers, {name.lower(): value for name, value in headers.items()}))
        if self.body:
            given.append((self.body.fields, _body_of(event, self.max_body_bytes)))
        arguments: dict[str, Any] = {}
        refusals = []
        for parameters, values in given:
            for parameter in parameters:
                value = values.get(parameter.name)
                if value is None:
                    if parameter.required:
                        refusals.append(f"{parameter.name}: is required")
                    arguments[parameter.argument] = parameter.default
                    continue
                try:
                    arguments[parameter.argument] = parameter.read(value)
                except RefusedError as error:
                    refusals.append(f"{parameter.name}: {error}")
        if refusals:
            raise ApiError(400, "; ".join(refusals))
        return arguments

    def _refuse(self, error: Exception, context: LambdaContext) -> tuple[int, str]:
        """Return the HTTP status and the message of an error."""
        match error:
            case ApiError():
                return error.status, error.msg
            case UnavailableError():
                logger.warning("A backing service is not available", exc_info=error)
                return 503, f"{error}; {self.unavailable}"
            case _:
                logger.exception("The call failed", exc_info=error)
                return 500, f"internal error; request id {context.aws_request_id}"


def _single(values: Mapping[str, list[str]] | None) -> dict[str, str | list[str]]:
    """Return the value of each name; of one that is repeated, which no parameter may be, all its values."""
    return {name: given[0] if len(given) == 1 else given for name, given in (values or {}).items()}


def _serialize(body: object) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # A message may quote the request, and a request may contain half a surrogate pair.
    return text.encode(errors="replace").decode()


def _body_of(event: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = b64decode(body).decode(errors="surrogateescape")
    return _read_object(body, max_bytes)


def _read_object(body: str, max_bytes: int) -> dict[str, Any]:
    """Return the JSON object of a body (RFC 8259). Raises ApiError, also where two parsers could disagree."""
    if len(body.encode(errors="surrogatepass")) > max_bytes:
        raise ApiError(413, f"the body is larger than {max_bytes} bytes")
    if not body.strip():
        raise ApiError(400, "the body is empty; it must be a JSON object")
    try:
        value = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
        # Half a surrogate pair, in the body itself or escaped as \\ud800, cannot be encoded.
        json.dumps(value, ensure_ascii=False).encode()
        body.encode()
    except UnicodeEncodeError:
        raise ApiError(400, "the body is not valid Unicode") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body is not a JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ApiError(400, f"the body is not JSON: {name} is not a JSON number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ApiError(400, "the body names a field twice")
    return fields
