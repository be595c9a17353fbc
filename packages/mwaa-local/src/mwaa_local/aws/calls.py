"""Reads from an HTTP request which call of AWS it is, by botocore's description of the service."""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import botocore.session
import xmltodict
from botocore.model import OperationModel, ServiceModel
from werkzeug.wrappers import Request

_SESSION = botocore.session.Session()
# Services that sign with another name than botocore's.
_NAMES = {"airflow": "mwaa"}


class UnknownCallError(Exception):
    """The request is no call that botocore describes. Its text says which request."""


@dataclass(frozen=True)
class Call:
    """One call.

    Args:
        service: as it signs, which is also how actions of IAM begin: `s3`, `airflow`.
        operation: `ListObjectsV2`.
        parameters: what stands in the path, the query, the headers or the body, by the API's names. Of S3's
            bodies only that of DeleteObjects is.
        region: that it is signed for.
    """

    service: str
    operation: str
    parameters: dict[str, Any]
    region: str

    @property
    def protocol(self) -> str:
        """`json`, `query`, `rest-json` or `rest-xml`."""
        return protocol(self.service)


def protocol(service: str) -> str:
    """How a service's answers look; `json` for one that botocore does not know."""
    return _model(service).metadata["protocol"] if _known(service) else "json"


def read(request: Request, service: str, region: str) -> Call:
    """Say which call a request is.

    Raises:
        UnknownCallError: none that is known.
    """
    what = f"{request.method} {request.path}"
    if not _known(service):
        raise UnknownCallError(f"{what} of the service {service!r}")
    kind = protocol(service)
    if kind == "json":
        operation, parameters = request.headers.get("X-Amz-Target", "").rpartition(".")[2], _json(request)
    elif kind == "query":
        form = parse_qs(request.get_data(as_text=True), keep_blank_values=True)
        parameters = {name: values[0] for name, values in form.items()} | request.args.to_dict()
        operation = parameters.pop("Action", "")
    elif kind.startswith("rest-"):
        return _rest(request, service, region, what)
    else:
        raise UnknownCallError(f"{what} of the service {service!r}")
    if operation not in _model(service).operation_names:
        raise UnknownCallError(f"{what} {operation} of the service {service!r}")
    return Call(service, operation, parameters, region)


def _rest(request: Request, service: str, region: str, what: str) -> Call:
    """The operation of a path; of several, that which needs most of what the request says."""
    fitting = [
        (len(needs), operation, match)
        for method, path, needs, operation in _routes(service)
        if method == request.method
        and (match := path.fullmatch(request.path))
        and all(name in request.args or name in request.headers for name in needs)
    ]
    if not fitting:
        raise UnknownCallError(f"{what} of the service {service!r}")
    _, operation, match = max(fitting, key=lambda each: each[0])
    parameters: dict[str, Any] = _json(request) if protocol(service) == "rest-json" else {}
    members = operation.input_shape.members if operation.input_shape else {}
    for name, member in members.items():
        where, key = member.serialization.get("location"), member.serialization.get("name", name)
        found = {"querystring": request.args, "header": request.headers}.get(where or "", {})
        if key in found:
            parameters[name] = found[key]
        elif where == "uri":
            parameters[name] = match[_group(key)]
    if operation.name == "DeleteObjects":
        parameters |= xmltodict.parse(request.get_data(), force_list=("Object",))
    return Call(service, operation.name, parameters, region)


def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(request.get_data() or b"{}")
    except ValueError:
        # The service itself says what is wrong with it.
        return {}
    return content if isinstance(content, dict) else {}


@cache
def _known(service: str) -> bool:
    return _NAMES.get(service, service) in _SESSION.get_available_services()


@cache
def _model(service: str) -> ServiceModel:
    return _SESSION.get_service_model(_NAMES.get(service, service))


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], list[str], OperationModel]]:
    """Method, path, and what else a request must have in its query or headers, for each operation."""
    found = []
    for name in _model(service).operation_names:
        operation = _model(service).operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        needs = [each.partition("=")[0] for each in query.split("&") if each and not each.startswith("x-id=")]
        shape = operation.input_shape
        for member in shape.required_members if shape else ():
            serialization = shape.members[member].serialization
            if serialization.get("location") in ("querystring", "header"):
                needs.append(serialization["name"])
        found.append((operation.http["method"], _path(path), needs, operation))
    return found


def _path(template: str) -> re.Pattern[str]:
    """`/{Bucket}/{Key+}` as an expression; a slash at the end may be there or not."""
    parts = re.split(r"\{([^}]+)\}", template.rstrip("/"))
    text = "".join(
        re.escape(part) if number % 2 == 0 else f"(?P<{_group(part)}>{'.+' if part.endswith('+') else '[^/]+'})"
        for number, part in enumerate(parts)
    )
    return re.compile(f"{text}/?" if not template.endswith("+}") else text)


def _group(name: str) -> str:
    return re.sub(r"\W", "_", name.rstrip("+"))
