"""Reads the AWS call from an HTTP request, by botocore's model of the service."""

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
# Services whose name in a signature differs from botocore's.
_NAMES = {"airflow": "mwaa", "airflow-serverless": "mwaa-serverless"}


class UnknownCallError(Exception):
    """botocore's models do not contain the call. The text names the request."""


@dataclass(frozen=True)
class Call:
    """One call.

    Args:
        service: its name in signatures and in IAM actions: `s3`, `airflow`.
        operation: `ListObjectsV2`.
        parameters: values from the path, query, headers and body, by the API's names. S3 bodies are left out, except
            that of DeleteObjects.
        region: the Region in the signature.
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
    """Return the protocol of a service; `json` if botocore does not know the service."""
    return _model(service).metadata["protocol"] if _known(service) else "json"


def read(request: Request, service: str, region: str) -> Call:
    """Return the call of a request.

    Raises:
        UnknownCallError: botocore does not know the call.
    """
    route = f"{request.method} {request.path}"
    if not _known(service):
        raise UnknownCallError(f"{route} of the service {service!r}")
    kind = protocol(service)
    if kind == "json":
        operation, parameters = request.headers.get("X-Amz-Target", "").rpartition(".")[2], _json(request)
    elif kind == "query":
        form = parse_qs(request.get_data(as_text=True), keep_blank_values=True)
        parameters = {name: values[0] for name, values in form.items()} | request.args.to_dict()
        operation = parameters.pop("Action", "")
    elif kind.startswith("rest-"):
        return _rest(request, service, region, route)
    else:
        raise UnknownCallError(f"{route} of the service {service!r}")
    if operation not in _model(service).operation_names:
        raise UnknownCallError(f"{route} {operation} of the service {service!r}")
    return Call(service, operation, parameters, region)


def _rest(request: Request, service: str, region: str, route: str) -> Call:
    """Return the call of a path. If several operations match, the one with the most required parameters wins."""
    candidates = [
        (len(needs), operation, match)
        for method, path, needs, operation in _routes(service)
        if method == request.method
        and (match := path.fullmatch(request.path))
        and all(name in request.args or name in request.headers for name in needs)
    ]
    if not candidates:
        raise UnknownCallError(f"{route} of the service {service!r}")
    _, operation, match = max(candidates, key=lambda candidate: candidate[0])
    parameters: dict[str, Any] = _json(request) if protocol(service) == "rest-json" else {}
    members = operation.input_shape.members if operation.input_shape else {}
    for name, member in members.items():
        where, key = member.serialization.get("location"), member.serialization.get("name", name)
        values = {"querystring": request.args, "header": request.headers}.get(where or "", {})
        if key in values:
            parameters[name] = values[key]
        elif where == "uri":
            parameters[name] = match[_group(key)]
    if operation.name == "DeleteObjects":
        parameters |= xmltodict.parse(request.get_data(), force_list=("Object",))
    return Call(service, operation.name, parameters, region)


def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(request.get_data() or b"{}")
    except ValueError:
        # The service itself reports the error.
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
    """Return method, path pattern, and required query parameters and headers of each operation."""
    routes = []
    for name in _model(service).operation_names:
        operation = _model(service).operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        needs = [part.partition("=")[0] for part in query.split("&") if part and not part.startswith("x-id=")]
        shape = operation.input_shape
        for member in shape.required_members if shape else ():
            serialization = shape.members[member].serialization
            if serialization.get("location") in ("querystring", "header"):
                needs.append(serialization["name"])
        routes.append((operation.http["method"], _path(path), needs, operation))
    return routes


def _path(template: str) -> re.Pattern[str]:
    """Return a URI template such as `/{Bucket}/{Key+}` as a pattern. A trailing slash is optional."""
    parts = re.split(r"\{([^}]+)\}", template.rstrip("/"))
    text = "".join(
        re.escape(part) if number % 2 == 0 else f"(?P<{_group(part)}>{'.+' if part.endswith('+') else '[^/]+'})"
        for number, part in enumerate(parts)
    )
    return re.compile(f"{text}/?" if not template.endswith("+}") else text)


def _group(name: str) -> str:
    return re.sub(r"\W", "_", name.rstrip("+"))
