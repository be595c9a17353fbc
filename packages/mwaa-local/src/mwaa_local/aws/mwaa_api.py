"""Answers the calls of Amazon MWAA that a release makes: environments, and Airflow's REST API through InvokeRestApi.

moto has no MWAA. An environment here is a record: a change of it takes `CHANGE_SECONDS`, fails when a file that it
names is not in the bucket, and otherwise shows what was asked for. Whoever runs Airflow reads it with GetEnvironment.

boto3 puts `api.` or `env.` before the endpoint's host, which an address like 127.0.0.1 cannot have. Clients need
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

# Long enough to be seen under way; a real environment takes 10 to 30 minutes.
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


class _Refused(Exception):  # noqa: N818 - not an error of ours but an answer
    def __init__(self, kind: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.response = _json({"message": message, **members}, status, {"x-amzn-ErrorType": kind})


@dataclass
class _Environment:
    """An environment as GetEnvironment shows it, and the change under way."""

    shown: dict[str, Any]
    wanted: dict[str, Any] = field(default_factory=dict)
    due: float | None = None


class MwaaApi:
    """The environments of one stand-in."""

    def __init__(self, settings: Settings) -> None:
        """`settings` say where S3 and Airflow are."""
        self._settings = settings
        self._model = botocore.session.Session().get_service_model("mwaa")
        self._lock = threading.Lock()
        self._environments: dict[str, _Environment] = {}
        self._token: str | None = None

    def answer(self, request: Request, region: str) -> Response:
        """The answer to a call that is signed for the service `airflow`."""
        try:
            operation, parameters = _ROUTES.bind_to_environ(request.environ).match()
        except HTTPException:
            message = f"the AWS stand-in does not know this call of MWAA: {request.method} {request.path}"
            return _Refused("UnknownOperationException", message).response
        try:
            parameters = self._validated(operation, {**parameters, **_body(request)})
            with self._lock:
                answer = self._perform(operation, parameters, region)
            return _json(self._invoke_rest_api(parameters) if operation == "InvokeRestApi" else answer)
        except _Refused as refused:
            return refused.response

    def settled(self, request: Request) -> dict[str, str]:
        """What a call leaves out because the environment says it: its bucket."""
        environment = self._environments.get(request.path.rpartition("/")[2])
        return {"SourceBucketArn": environment.shown["SourceBucketArn"]} if environment else {}

    def credentials(self, name: str) -> Response:
        """The execution role's credentials, as AWS's libraries ask for them inside of an environment.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
        """
        with self._lock:
            environment = self._environments.get(name)
        if environment is None:
            return _Refused("ResourceNotFoundException", f"Environment {name} not found", 404).response
        context = {"aws:SourceAccount": ACCOUNT_ID, "aws:SourceArn": environment.shown["Arn"]}
        try:
            role = environment.shown["ExecutionRoleArn"]
            session = take_role(role, "airflow-env.amazonaws.com", context, "AmazonMWAA-airflow")
        except DeniedError as denied:
            return _Refused("AccessDeniedException", str(denied), 403).response
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        keys = {"AccessKeyId": session.key, "SecretAccessKey": session.secret, "Token": session.token}
        return _json({**keys, "Expiration": expires})

    def _perform(self, operation: str, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        """Change or look up environments; for InvokeRestApi, only that the environment exists."""
        if operation == "ListEnvironments":
            return {"Environments": sorted(self._environments)}
        name = parameters.pop("Name")
        if operation == "CreateEnvironment":
            return self._create(name, region, parameters)
        if operation == "UpdateEnvironment":
            return self._update(name, parameters)
        environment = self._existing(name)
        if operation == "DeleteEnvironment":
            del self._environments[name]
            return {}
        return {"Environment": environment.shown}

    def _validated(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        report = ParamValidator().validate(parameters, self._model.operation_model(operation).input_shape)
        if report.has_errors():
            raise _Refused("ValidationException", report.generate_report())
        return parameters

    def _existing(self, name: str) -> _Environment:
        if name not in self._environments:
            raise _Refused("ResourceNotFoundException", f"Environment {name} not found", 404)
        environment = self._environments[name]
        if environment.due is not None and time.monotonic() >= environment.due:
            self._settle(environment)
        return environment

    def _settle(self, environment: _Environment) -> None:
        """End the change under way: show what was wanted, or, when a file is missing, what was before and why."""
        shown, creating = environment.shown, environment.shown["Status"] == "CREATING"
        error = self._missing_file({**shown, **environment.wanted})
        if error is None:
            shown.update(environment.wanted, Status="AVAILABLE")
        else:
            shown["Status"] = "CREATE_FAILED" if creating else "UPDATE_FAILED"
        shown["LastUpdate"] |= {"Status": "FAILED", "Error": error} if error else {"Status": "SUCCESS"}
        environment.wanted, environment.due = {}, None

    def _missing_file(self, wanted: dict[str, Any]) -> dict[str, str] | None:
        bucket = wanted["SourceBucketArn"].rpartition(":")[2]
        for path, version in _FILES.items():
            if not wanted.get(path):
                continue
            at = {"VersionId": wanted[version]} if wanted.get(version) else {}
            try:
                client(self._settings, "s3").head_object(Bucket=bucket, Key=wanted[path], **at)
            except ClientError as error:
                where = f"s3://{bucket}/{wanted[path]} {wanted.get(version, '')}".strip()
                message = f"{path}: {where} cannot be read: {error}"
                return {"ErrorCode": "INCORRECT_CONFIGURATION", "ErrorMessage": message}
        return None

    def _begin(self, environment: _Environment, status: str, wanted: dict[str, Any]) -> dict[str, str]:
        strategy = wanted.pop("WorkerReplacementStrategy", None)
        environment.wanted, environment.due = wanted, time.monotonic() + CHANGE_SECONDS
        environment.shown["Status"] = status
        environment.shown["LastUpdate"] = {"Status": "PENDING", "CreatedAt": time.time()}
        if strategy:
            environment.shown["LastUpdate"]["WorkerReplacementStrategy"] = strategy
        return {"Arn": environment.shown["Arn"]}

    def _create(self, name: str, region: str, wanted: dict[str, Any]) -> dict[str, str]:
        if name in self._environments:
            raise _Refused("ValidationException", f"Environment {name} exists already")
        shown = {
            "Name": name,
            "Arn": f"arn:aws:airflow:{region}:{ACCOUNT_ID}:environment/{name}",
            "CreatedAt": time.time(),
            "WebserverUrl": f"{HOST}:{self._settings.airflow_port}",
            "EnvironmentClass": "mw1.small",
            **wanted,
        }
        environment = self._environments[name] = _Environment(shown)
        return self._begin(environment, "CREATING", {})

    def _update(self, name: str, wanted: dict[str, Any]) -> dict[str, str]:
        environment = self._existing(name)
        status = environment.shown["Status"]
        if status not in ("AVAILABLE", "UPDATE_FAILED"):
            raise _Refused("ValidationException", f"Environment {name} is {status}; wait until it is AVAILABLE")
        return self._begin(environment, "UPDATING", wanted)

    def _invoke_rest_api(self, call: dict[str, Any]) -> dict[str, Any]:
        path = call["Path"]
        # The model's limit. It is short, and a local run should not pass where a real one fails.
        if not path.startswith("/") or len(path) > 64:
            raise _Refused("ValidationException", f"Path: {path!r} must start with / and have at most 64 characters")
        try:
            answer = self._call_airflow(call)
        except SetupError as error:
            raise _Refused("InternalServerException", str(error), 500) from error
        except httpx.HTTPError as error:
            message = f"Airflow does not answer at {HOST}:{self._settings.airflow_port} (LOCAL_AIRFLOW_PORT): {error}"
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

    def _call_airflow(self, call: dict[str, Any]) -> httpx.Response:
        with httpx.Client(base_url=f"http://{HOST}:{self._settings.airflow_port}", timeout=30) as airflow:
            # A token lasts a day, and dies with the Airflow that gave it.
            for attempt in range(2):
                if attempt or not self._token:
                    login = {"username": "admin", "password": Passwords.load(self._settings.state).airflow_admin}
                    given = airflow.post("/auth/token", json=login)
                    given.raise_for_status()
                    self._token = given.json()["access_token"]
                answer = airflow.request(
                    call["Method"],
                    f"/api/v2{call['Path']}",
                    params=call.get("QueryParameters"),
                    json=call.get("Body"),
                    headers={"Authorization": f"Bearer {self._token}"},
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
