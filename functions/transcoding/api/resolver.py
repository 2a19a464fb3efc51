"""What all API functions share: how a request body is read, and which response a result or an error becomes.

Each function has a resolver with one route. API Gateway invokes it with proxy events:
https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NoReturn

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

from transcoding.api.schemas import Refusal
from transcoding.errors import ApiError, UnavailableError

PREFIX = "/transcoding/api"
MAX_BODY_BYTES = 64 * 1024

logger = Logger(child=True)


_COMMON_REFUSALS = {
    403: "The API key is missing or wrong",
    429: "Too many requests",
    500: "The service failed",
}


class ApiResolver(APIGatewayRestResolver):
    """A Powertools resolver whose responses are all JSON objects with `errcode` and `msg`.

    `unavailable` is the end of the message where a backing service is not available: what the call may have
    done all the same, and whether it may be repeated.
    """

    def __init__(self, unavailable: str) -> None:
        super().__init__(
            serializer=_serialize,
            enable_validation=True,
            json_body_deserializer=_read_object,
        )
        self._unavailable = unavailable
        self.exception_handler(Exception)(self._refuse)

    def answers(self, answer: type[BaseModel], refusals: Mapping[int, str]) -> dict[int, Any]:
        """Return the OpenAPI responses of a route: `answer` with 200, Refusal with each of `refusals`."""
        unavailable = {503: f"A backing service is not available; {self._unavailable}"}
        described = {200: "OK"} | dict(refusals) | _COMMON_REFUSALS | unavailable
        return {
            status: {
                "description": description,
                "content": {"application/json": {"model": answer if status == 200 else Refusal}},
            }
            for status, description in sorted(described.items())
        }

    def resolve(self, event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Return the response to an API Gateway proxy event, as the Lambda proxy integration expects it."""
        response = super().resolve(_with_text_body(event), context)
        response["multiValueHeaders"] |= {
            "Content-Type": ["application/json; charset=utf-8"],
            "Cache-Control": ["no-store"],
        }
        return response

    def _refuse(self, error: Exception) -> Response[dict[str, Any]]:
        match error:
            case ApiError():
                status, msg = error.status, error.msg
            case RequestValidationError():
                status, msg = 400, "; ".join(map(_phrase, error.errors()))
            case NotFoundError():
                status, msg = (
                    404,
                    f"no such route: {self.current_event.http_method} {self.current_event.path}",
                )
            case UnavailableError():
                logger.warning("A backing service is not available", exc_info=error)
                status, msg = 503, f"{error}; {self._unavailable}"
            case _:
                logger.exception("The call failed", exc_info=error)
                status, msg = 500, f"internal error; request id {self.lambda_context.aws_request_id}"
        return Response(status, "application/json", {"errcode": 1000 + status, "msg": msg})


def _phrase(error: Mapping[str, Any]) -> str:
    """Return which parameter is wrong, and why."""
    if error["loc"] == ("body",):
        return "the body is empty; it must be a JSON object"
    return f"{error['loc'][-1]}: {'is required' if error['type'] == 'missing' else error['msg']}"


def _serialize(body: object) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # A message may quote the request, and a request may contain half a surrogate pair.
    return text.encode(errors="replace").decode()


def _with_text_body(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with a JSON content type, whatever the request says (curl's default is a form's)."""
    headers = {k: v for k, v in (event.get("headers") or {}).items() if k.lower() != "content-type"}
    body = event.get("body")
    if body and event.get("isBase64Encoded"):
        body = b64decode(body).decode(errors="surrogateescape")
    return {
        **event,
        "headers": {**headers, "content-type": "application/json"},
        "body": body,
        "isBase64Encoded": False,
    }


def _read_object(body: str) -> dict[str, Any]:
    """Return the JSON object of a body (RFC 8259). Raises ApiError, also where two parsers could disagree."""
    if len(body.encode(errors="surrogatepass")) > MAX_BODY_BYTES:
        raise ApiError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
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
