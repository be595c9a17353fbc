"""Answers the MWAA calls of a release: environments, and Airflow's REST API through InvokeRestApi.

moto has no MWAA. An environment here is only a record. A change takes `CHANGE_SECONDS`, and fails if one of the files
is missing in the bucket.

All environments have the Airflow of this checkout, unless their tag `local-airflow` has another address, such as
`http://admin:<password>@127.0.0.1:8081`.

boto3 adds `api.` or `env.` to the endpoint's host, which does not work for 127.0.0.1. Clients need
AWS_DISABLE_HOST_PREFIX_INJECTION=true in their environment, or `Config(inject_host_prefix=False)`.
https://docs.aws.amazon.com/mwaa/latest/API/Welcome.html
"""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import httpx
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from mwaa_local.aws.access import DeniedError, take_role
from mwaa_local.aws.seed import client
from mwaa_local.settings import ACCOUNT_ID, HOST, Passwords, Settings, SetupError

# Long enough to observe a change in progress. On AWS it takes 10 to 30 minutes.
CHANGE_SECONDS = 1.0
_ROUTES = Map(
    [
        Rule("/environments", endpoint="ListEnvironments", methods=["GET"]),
        Rule("/environments/<Name>", endpoint="GetEnvironment", methods=["GET"]),
        Rule("/environments/<Name>", endpoint="CreateEnvironment", methods=["PUT"]),
        Rule("/environments/<Name>", endpoint="UpdateEnvironment", methods=["PATCH"]),
        Rule("/environments/<Name>", endpoint="DeleteEnvironment", methods=["DELETE"]),
        Rule("/restapi/<Name>", endpoint="InvokeRestApi", methods=["POST"]),
    ]
)
_FILES = {
    "RequirementsS3Path": "RequirementsS3ObjectVersion",
    "StartupScriptS3Path": "StartupScriptS3ObjectVersion",
    "PluginsS3Path": "PluginsS3ObjectVersion",
}


class _Refused(Exception):  # noqa: N818 - an answer to the client
    def __init__(self, kind: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.response = _json({"message": message, **members}, status, {"x-amzn-ErrorType": kind})


@dataclass
class _Environment:
    """An environment as GetEnvironment returns it, and the change in progress."""

    properties: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    due: float | None = None


class MwaaApi:
    """The environments of one stand-in."""

    def __init__(self, settings: Settings) -> None:
        """`settings` have the addresses of S3 and Airflow."""
        self._settings = settings
        self._model = botocore.session.Session().get_service_model("mwaa")
        self._lock = threading.Lock()
        self._environments: dict[str, _Environment] = {}
        self._tokens: dict[httpx.URL, str] = {}

    def answer(self, request: Request, region: str) -> Response:
        """Return the answer to a call of the service `airflow`."""
        try:
            operation, parameters = _ROUTES.bind_to_environ(request.environ).match()
        except HTTPException:
            message = f"the AWS stand-in does not know this call of MWAA: {request.method} {request.path}"
            return _Refused("UnknownOperationException", message).response
        try:
            parameters = self._validated(operation, {**parameters, **_body(request)})
            with self._lock:
                answer = self._perform(operation, dict(parameters), region)
            return _json(self._invoke_rest_api(parameters) if operation == "InvokeRestApi" else answer)
        except _Refused as refused:
            return refused.response

    def extra_parameters(self, request: Request) -> dict[str, str]:
        """Return parameters that a call leaves out because the environment has them: its bucket."""
        environment = self._environments.get(request.path.rpartition("/")[2])
        return {"SourceBucketArn": environment.properties["SourceBucketArn"]} if environment else {}

    def credentials(self, name: str) -> Response:
        """Return the execution role's credentials, as AWS's libraries request them on a worker.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
        """
        with self._lock:
            environment = self._environments.get(name)
        if environment is None:
            return _Refused("ResourceNotFoundException", f"Environment {name} not found", 404).response
        context = {"aws:SourceAccount": ACCOUNT_ID, "aws:SourceArn": environment.properties["Arn"]}
        try:
            role = environment.properties["ExecutionRoleArn"]
            session = take_role(role, "airflow-env.amazonaws.com", context, "AmazonMWAA-airflow")
        except DeniedError as denied:
            return _Refused("AccessDeniedException", str(denied), 403).response
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        keys = {"AccessKeyId": session.key, "SecretAccessKey": session.secret, "Token": session.token}
        return _json({**keys, "Expiration": expires})

    def _perform(self, operation: str, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        """Change or look up an environment. For InvokeRestApi, only check that it exists."""
        if operation == "ListEnvironments":
            return {"Environments": sorted(self._environments)}
        name = parameters.pop("Name")
        if operation == "CreateEnvironment":
            return self._create(name, region, parameters)
        if operation == "UpdateEnvironment":
            return self._update(name, parameters)
        environment = self._environment(name)
        if operation == "DeleteEnvironment":
            del self._environments[name]
            return {}
        return {"Environment": environment.properties}

    def _validated(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        report = ParamValidator().validate(parameters, self._model.operation_model(operation).input_shape)
        if report.has_errors():
            raise _Refused("ValidationException", report.generate_report())
        return parameters

    def _environment(self, name: str) -> _Environment:
        if name not in self._environments:
            raise _Refused("ResourceNotFoundException", f"Environment {name} not found", 404)
        environment = self._environments[name]
        if environment.due is not None and time.monotonic() >= environment.due:
            self._end_change(environment)
        return environment

    def _end_change(self, environment: _Environment) -> None:
        """End the change in progress: apply it, or report the missing file."""
        properties, creating = environment.properties, environment.properties["Status"] == "CREATING"
        changed = {**properties, **environment.changes}
        error = self._missing_file(changed)
        if error is None:
            properties.update(changed if creating else environment.changes, Status="AVAILABLE")
        else:
            properties["Status"] = "CREATE_FAILED" if creating else "UPDATE_FAILED"
        properties["LastUpdate"] |= {"Status": "FAILED", "Error": error} if error else {"Status": "SUCCESS"}
        environment.changes, environment.due = {}, None

    def _missing_file(self, changes: dict[str, Any]) -> dict[str, str] | None:
        bucket = changes["SourceBucketArn"].rpartition(":")[2]
        for path, version in _FILES.items():
            if not changes.get(path):
                continue
            at = {"VersionId": changes[version]} if changes.get(version) else {}
            try:
                stored = client(self._settings, "s3").head_object(Bucket=bucket, Key=changes[path], **at)
                # A new environment gets the newest version. Unverified: Terraform's provider reads the version back.
                changes.setdefault(version, stored.get("VersionId", "null"))
            except ClientError as error:
                where = f"s3://{bucket}/{changes[path]} {changes.get(version, '')}".strip()
                message = f"{path}: {where} cannot be read: {error}"
                return {"ErrorCode": "INCORRECT_CONFIGURATION", "ErrorMessage": message}
        return None

    def _begin(self, environment: _Environment, status: str, changes: dict[str, Any]) -> dict[str, str]:
        strategy = changes.pop("WorkerReplacementStrategy", None)
        environment.changes, environment.due = changes, time.monotonic() + CHANGE_SECONDS
        environment.properties["Status"] = status
        environment.properties["LastUpdate"] = {"Status": "PENDING", "CreatedAt": time.time()}
        if strategy:
            environment.properties["LastUpdate"]["WorkerReplacementStrategy"] = strategy
        return {"Arn": environment.properties["Arn"]}

    def _create(self, name: str, region: str, changes: dict[str, Any]) -> dict[str, str]:
        if name in self._environments:
            raise _Refused("ValidationException", f"Environment {name} exists already")
        properties = {
            "Name": name,
            "Arn": f"arn:aws:airflow:{region}:{ACCOUNT_ID}:environment/{name}",
            "CreatedAt": time.time(),
            "WebserverUrl": f"{HOST}:{self._settings.airflow_port}",
            "EnvironmentClass": "mw1.small",
            **changes,
        }
        environment = self._environments[name] = _Environment(properties)
        return self._begin(environment, "CREATING", {})

    def _update(self, name: str, changes: dict[str, Any]) -> dict[str, str]:
        environment = self._environment(name)
        status = environment.properties["Status"]
        if status not in ("AVAILABLE", "UPDATE_FAILED"):
            raise _Refused("ValidationException", f"Environment {name} is {status}; wait until it is AVAILABLE")
        return self._begin(environment, "UPDATING", changes)

    def _invoke_rest_api(self, call: dict[str, Any]) -> dict[str, Any]:
        path = call["Path"]
        # The limit of the API's model.
        if not path.startswith("/") or len(path) > 64:
            raise _Refused("ValidationException", f"Path: {path!r} must start with / and have at most 64 characters")
        try:
            answer = self._call_airflow(call)
        except SetupError as error:
            raise _Refused("InternalServerException", str(error), 500) from error
        except httpx.HTTPError as error:
            address = self._airflow(call["Name"]).netloc.decode()
            message = f"Airflow does not answer at {address} (LOCAL_AIRFLOW_PORT): {error}"
            raise _Refused("InternalServerException", message, 500) from error
        try:
            content = answer.json() if answer.content else None
        except ValueError:
            content = answer.text
        result = {"RestApiStatusCode": answer.status_code, "RestApiResponse": content}
        if answer.is_error:
            kind = "RestApiServerException" if answer.is_server_error else "RestApiClientException"
            raise _Refused(kind, f"Airflow answered {answer.status_code}", **result)
        return result

    def _airflow(self, environment: str) -> httpx.URL:
        """Return the address of an environment's Airflow, with the login."""
        with self._lock:
            tags = self._environments[environment].properties.get("Tags", {})
        if "local-airflow" in tags:
            return httpx.URL(tags["local-airflow"])
        password = Passwords.load(self._settings.state).airflow_admin
        return httpx.URL(
            scheme="http", host=HOST, port=self._settings.airflow_port, userinfo=f"admin:{password}".encode()
        )

    def _call_airflow(self, call: dict[str, Any]) -> httpx.Response:
        address = self._airflow(call["Name"])
        with httpx.Client(base_url=address.copy_with(userinfo=b""), timeout=30) as airflow:
            # A token is valid for a day, or until Airflow restarts.
            for attempt in range(2):
                if attempt or address not in self._tokens:
                    login = {"username": address.username, "password": address.password}
                    response = airflow.post("/auth/token", json=login)
                    self._tokens[address] = response.raise_for_status().json()["access_token"]
                answer = airflow.request(
                    call["Method"],
                    f"/api/v2{call['Path']}",
                    params=call.get("QueryParameters"),
                    json=call.get("Body"),
                    headers={"Authorization": f"Bearer {self._tokens[address]}"},
                )
                if answer.status_code != httpx.codes.UNAUTHORIZED:
                    break
        return answer


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise _Refused("ValidationException", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Refused("ValidationException", f"the body must be a JSON object, not {type(body).__name__}")
    return body


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, {"Content-Type": "application/json", **(headers or {})})
