"""Errors on the wire: OpenAI's shape, and the one table that gives each of our errors its status."""

import itertools
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from llama_pajamas_run_core import errors
from llama_pajamas_run_core.server.wire import Json

_log = logging.getLogger(__name__)


class Unauthorized(errors.UserError):
    """The API key is missing or wrong."""

    def __init__(self, message: str, *, code: str | None) -> None:
        super().__init__(message)
        self.code = code


class Forbidden(errors.UserError):
    """Nobody may do this here."""


class NotFound(errors.UserError):
    """There is no such thing at this address."""


class TooSlow(errors.UserError):
    """A request's body does not come."""


class Overtime(errors.RuntimeFault):
    """A request took longer than a request may take."""


class ClientGone(errors.RuntimeFault):
    """The client left before its reply; there is nobody to be told."""

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


@dataclass(frozen=True, slots=True)
class Row:
    """How an error goes over the wire.

    Attributes:
        status: HTTP's status.
        type: OpenAI's error type.
        code: OpenAI's error code.
        message: what is said in place of the error's own message, where that may tell what is nobody's business.
        retry: whether a client that tries again by itself may do so; None leaves it to the status.
    """

    status: int
    type: str
    code: str | None = None
    message: str | None = None
    retry: bool | None = None


_INVALID = "invalid_request_error"
_SERVER = "server_error"

#: The most specific class counts. The clients of OpenAI retry 408, 409, 429 and all from 500 on by themselves, so what
#: will not be mended by a retry says so.
TABLE: Mapping[type[BaseException], Row] = {
    Unauthorized: Row(401, _INVALID),
    Forbidden: Row(403, _INVALID, "forbidden"),
    NotFound: Row(404, _INVALID, "not_found"),
    errors.UnknownModel: Row(404, _INVALID, "model_not_found"),
    TooSlow: Row(408, _INVALID, "timeout"),
    errors.ContextTooLong: Row(400, _INVALID, "context_length_exceeded"),
    errors.TooLarge: Row(413, _INVALID, "too_large"),
    errors.Unsupported: Row(400, _INVALID, "unsupported"),
    errors.BadInput: Row(400, _INVALID),
    errors.MissingDependency: Row(501, _SERVER, "missing_dependency", retry=False),
    errors.UserError: Row(400, _INVALID),
    errors.Busy: Row(503, _SERVER, "overloaded"),
    errors.OutOfMemory: Row(503, _SERVER, "out_of_memory", retry=False),
    errors.LoadError: Row(503, _SERVER, "model_load_failed", retry=False),
    errors.Cancelled: Row(503, _SERVER, "cancelled", message="The request was cancelled.", retry=False),
    errors.InferenceError: Row(
        500, _SERVER, "inference_failed", message="The model failed while running.", retry=False
    ),
    ClientGone: Row(499, _INVALID, "client_closed_request"),
    Overtime: Row(504, _SERVER, "timeout", retry=False),
    Exception: Row(500, _SERVER, message="The server failed to handle the request."),
}

#: The folders of a path: a message about a model may name its file, not where it lies.
_FOLDERS = re.compile(r"(?<![\w.:/~-])(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\":,]+[\\/])+")
#: The longest message sent; input must not be echoed at length.
_LONGEST = 1000


def row_of(error: BaseException) -> Row:
    """The table's row for an error."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def body_of(message: str, type_: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message[:_LONGEST], "type": type_, "param": param, "code": code}}


def describe(error: BaseException) -> dict[str, Any]:
    """An error of ours, or any other, in OpenAI's shape. Of unforeseen errors nothing is told."""
    row = row_of(error)
    if row.status == 500:
        _log.error("request failed: %s", error, exc_info=error)
    elif row.status > 500:
        _log.warning("request failed: %s", error)
    message = row.message or str(error)
    if isinstance(error, errors.RuntimeFault):
        message = _FOLDERS.sub("", message)
    return body_of(
        message, row.type, param=getattr(error, "param", None), code=getattr(error, "code", None) or row.code
    )


def respond(error: BaseException) -> Json:
    """The reply for an error."""
    row = row_of(error)
    headers: dict[str, str] = {}
    wait = getattr(error, "retry_after", None)
    if wait is not None:
        headers["Retry-After"] = str(max(math.ceil(wait), 1))
    if row.retry is False:
        headers["x-should-retry"] = "false"
    if row.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if row.status == 408:
        headers["Connection"] = "close"  # or the rest of the request would be taken for the next one
    return Json(describe(error), row.status, headers)


def install(app: FastAPI) -> None:
    """Have every error of an application leave in OpenAI's shape."""

    async def ours(request: Request, error: Exception) -> Json:
        return respond(error)

    async def http(request: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, errors.PajamasError):
            return respond(error.__cause__)
        message, code = str(error.detail), None
        if error.status_code == 404:
            message, code = f"There is no endpoint {request.method} {request.url.path[:200]}.", "not_found"
        elif error.status_code == 405:
            message, code = f"{request.url.path[:200]} does not take {request.method}.", "method_not_allowed"
        type_ = _INVALID if error.status_code < 500 else _SERVER
        return Json(body_of(message, type_, code=code), error.status_code, dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> Json:
        assert isinstance(error, RequestValidationError)
        return respond(as_bad_input(error.errors(), error.body))

    app.add_exception_handler(errors.PajamasError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def as_bad_input(found: Sequence[Any], body: Any) -> errors.BadInput:
    """The one of pydantic's errors that is nearest to the mistake.

    A union reports the errors of each of its members. The member meant is one whose types fit, or else the one that got
    furthest into the input.

    Args:
        found: pydantic's errors.
        body: the input, where known.
    """
    if any(error["type"] == "json_invalid" for error in found):
        context = found[0].get("ctx") or {}
        return errors.BadInput(f"The body is not valid JSON: {context.get('error', 'it cannot be parsed')}.")
    placed = [(*_place(error, body), error) for error in found]
    misfits = {member for _, member, error in placed if str(error["type"]).endswith("_type")}
    place, _, error = max(placed, key=lambda entry: (entry[1] not in misfits, len(entry[0])))
    param = _dotted(place)
    if error["type"] == "missing":
        where = f"'{param}'" if param else "body"
        if not param:
            return errors.BadInput("The request needs a JSON body (Content-Type: application/json).")
        return errors.BadInput(f"The required parameter {where} is missing.", param=param)
    message = str(error["msg"]).removeprefix("Value error, ")
    return errors.BadInput(f"{param}: {message}." if param else f"{message}.", param=param or None)


def _place(error: Mapping[str, Any], body: Any) -> tuple[list[str | int], tuple[str | int, ...]]:
    """Where an error lies in the input, and the union members tried, which pydantic's location names as well."""
    location = list(error["loc"])
    if location[:1] and location[0] in ("body", "query", "path", "header"):
        location = location[1:]
    if not isinstance(body, (dict, list)):
        return list(itertools.takewhile(lambda part: isinstance(part, str), location)), ()
    place: list[str | int] = []
    members: list[str | int] = []
    current = body
    for index, part in enumerate(location):
        if _holds(current, part):
            current = current[part]
            place.append(part)
        elif index == len(location) - 1 and error["type"] == "missing":
            place.append(part)
        else:
            members.append(part)
    return place, tuple(members)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(value, list) and part < len(value)
    return isinstance(value, dict) and part in value


def _dotted(place: Sequence[str | int]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text[:200]
