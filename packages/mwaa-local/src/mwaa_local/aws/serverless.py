"""Answers the calls of Amazon MWAA Serverless: a run of a workflow runs its definition on a real Airflow.

It takes a snapshot of definition and code at each version, checks the definition, and gives the tasks the workflow's
role. Schedules start no runs.
https://docs.aws.amazon.com/mwaa-serverless/latest/APIReference/
"""

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from botocore.validate import ParamValidator
from moto.backends import get_backend
from werkzeug.wrappers import Request, Response

from mwaa_local.aws import calls
from mwaa_local.aws.access import DeniedError, Session, check_role, take_role
from mwaa_local.aws.rights import workflow_key_context
from mwaa_local.aws.workflow_run import ENDED, Run
from mwaa_local.settings import ACCOUNT_ID, Settings
from mwaa_pipelines.serverless.limits import limit
from mwaa_release.policies import Right
from mwaa_release.serverless.validate import find_problems

SERVICE = "airflow-serverless.amazonaws.com"
_JSON = {"Content-Type": "application/x-amz-json-1.0"}
# https://docs.aws.amazon.com/mwaa-serverless/latest/APIReference/API_Environment.html
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}", re.ASCII)
_RESERVED = re.compile(r"AWS_|AIRFLOW__(?!WORKERS__SECRETS_BACKEND)")
_SHOWN = ("DefinitionS3Location", "Code", "RoleArn", "Description", "Environment", "NetworkConfiguration")
_SHOWN += ("LoggingConfiguration", "TriggerMode")


class _RefusedError(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.response = Response(json.dumps({"__type": kind, "Message": message}), 400, _JSON)


@dataclass
class _Version:
    """A version of a workflow, with the snapshots that its runs use."""

    version: str
    parameters: dict[str, Any]
    definition: bytes
    code: bytes | None
    created: float = field(default_factory=time.time)


@dataclass
class _Workflow:
    arn: str
    name: str
    encryption: dict[str, str]
    versions: list[_Version]
    runs: dict[str, Run] = field(default_factory=dict)


class Serverless:
    """The workflows of one stand-in. `close` ends the runs."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Give each run a folder under `folder`. `settings` have the state folder with the service's Airflow."""
        self._folder, self._settings = folder, settings
        self._model = botocore.session.Session().get_service_model("mwaa-serverless")
        self._lock = threading.RLock()
        self._workflows: dict[str, _Workflow] = {}
        self._calls: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "CreateWorkflow": self._create,
            "UpdateWorkflow": self._update,
            "DeleteWorkflow": self._delete,
            "GetWorkflow": self._get,
            "ListWorkflows": self._list,
            "ListWorkflowVersions": self._list_versions,
            "StartWorkflowRun": self._start,
            "StopWorkflowRun": self._stop,
            "GetWorkflowRun": self._get_run,
            "ListWorkflowRuns": self._list_runs,
            "ListTaskInstances": self._list_tasks,
            "GetTaskInstance": self._get_task,
        }

    def answer(self, request: Request, region: str) -> Response:
        """Return the answer to a call."""
        call = calls.read(request, "airflow-serverless", region)
        try:
            with self._lock:
                content = self._perform(call.operation, call.parameters, region)
            return Response(json.dumps(content), 200, _JSON)
        except _RefusedError as refused:
            return refused.response

    def _perform(self, operation: str, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        if operation not in self._calls:
            raise _RefusedError("ValidationException", f"the AWS stand-in does not know {operation}")
        report = ParamValidator().validate(parameters, self._model.operation_model(operation).input_shape)
        if report.has_errors():
            raise _RefusedError("ValidationException", report.generate_report())
        return self._calls[operation](parameters, region)

    def close(self) -> None:
        """Kill all runs, and wait for their end."""
        with self._lock:
            runs = [run for workflow in self._workflows.values() for run in workflow.runs.values()]
        for run in runs:
            run.kill()

    def _create(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        name = parameters["Name"]
        if any(workflow.name == name for workflow in self._workflows.values()):
            raise _RefusedError("ConflictException", f"Workflow with name {name} already exists")
        if len(self._workflows) >= limit("workflows"):
            raise _RefusedError("ServiceQuotaExceededException", "Maximum workflows per account")
        suffix = secrets.token_hex(5)
        arn = f"arn:aws:airflow-serverless:{region}:{ACCOUNT_ID}:workflow/{name}-{suffix}"
        version = self._snapshot(arn, name, parameters)
        self._workflows[arn] = _Workflow(arn, name, parameters.get("EncryptionConfiguration", {}), [version])
        return {
            "WorkflowArn": arn,
            "CreatedAt": version.created,
            "WorkflowStatus": "READY",
            "WorkflowVersion": version.version,
            "IsLatestVersion": True,
            "Warnings": [],
        }

    def _update(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        if len(workflow.versions) >= limit("versions"):
            raise _RefusedError("ServiceQuotaExceededException", "Maximum workflow versions per workflow")
        version = self._snapshot(workflow.arn, workflow.name, parameters)
        workflow.versions.append(version)
        return {
            "WorkflowArn": workflow.arn,
            "ModifiedAt": version.created,
            "WorkflowVersion": version.version,
            "Warnings": [],
        }

    def _delete(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        if version := parameters.get("WorkflowVersion"):
            remaining = [entry for entry in workflow.versions if entry.version != version]
            if version == workflow.versions[-1].version or len(remaining) == len(workflow.versions):
                raise _RefusedError("ValidationException", f"Version {version} cannot be deleted")
            workflow.versions[:] = remaining
            return {"WorkflowArn": workflow.arn, "WorkflowVersion": version}
        del self._workflows[workflow.arn]
        for run in workflow.runs.values():
            run.kill()
        return {"WorkflowArn": workflow.arn}

    def _get(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        version = self._version(workflow, parameters.get("WorkflowVersion"))
        details = {name: version.parameters[name] for name in _SHOWN if name in version.parameters}
        if "Code" in details:
            # The service adds the version of the object that it has copied.
            details["Code"] = {"S3Location": {**details["Code"]["S3Location"], "VersionId": "1"}}
        return {
            "WorkflowArn": workflow.arn,
            "WorkflowVersion": version.version,
            "Name": workflow.name,
            "CreatedAt": workflow.versions[0].created,
            "ModifiedAt": version.created,
            "WorkflowStatus": "READY",
            "EncryptionConfiguration": workflow.encryption or {"Type": "AWS_MANAGED_KEY"},
            **details,
        }

    def _list(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        entries = [
            {
                "WorkflowArn": workflow.arn,
                "WorkflowVersion": workflow.versions[-1].version,
                "Name": workflow.name,
                "CreatedAt": workflow.versions[0].created,
                "WorkflowStatus": "READY",
                **{key: value for key, value in workflow.versions[-1].parameters.items() if key == "Description"},
            }
            for workflow in self._workflows.values()
        ]
        return _page("Workflows", entries, parameters)

    def _list_versions(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        entries = [
            {
                "WorkflowVersion": version.version,
                "WorkflowArn": workflow.arn,
                "IsLatestVersion": version is workflow.versions[-1],
                "CreatedAt": version.created,
                "DefinitionS3Location": version.parameters["DefinitionS3Location"],
            }
            for version in workflow.versions
        ]
        return _page("WorkflowVersions", entries, parameters)

    def _start(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        version = self._version(workflow, parameters.get("WorkflowVersion"))
        if sum(run.state not in ENDED for run in workflow.runs.values()) >= limit("concurrent_runs"):
            raise _RefusedError("ServiceQuotaExceededException", "Maximum concurrent runs per workflow")
        run_id = secrets.token_hex(8)
        values = (version.parameters.get("Environment") or {}).get("Variables") or {}
        session = self._session(version.parameters["RoleArn"], workflow.arn)
        self._check_key(workflow, version.parameters["RoleArn"])
        run = Run(
            self._folder / run_id,
            self._settings,
            # AWS does not say whether a DAG has this id or the workflow's name, so tasks must not depend on it.
            dag_id=workflow.arn.rpartition("/")[2],
            definition=version.definition,
            code=version.code,
            environment={**values, **session.environment()},
            log_group=version.parameters.get("LoggingConfiguration", {}).get("LogGroupName", ""),
            version=version.version,
        )
        workflow.runs[run_id] = run
        run.start()
        return {"RunId": run_id, "Status": "STARTING"}

    def _stop(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow, run = self._run(parameters)
        run.stop()
        return {"WorkflowArn": workflow.arn, "RunId": parameters["RunId"], "Status": "STOPPING"}

    def _get_run(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow, run = self._run(parameters)
        named = {"WorkflowArn": workflow.arn, "WorkflowVersion": run.version, "RunId": parameters["RunId"]}
        detail = {
            **named,
            "RunType": "ON_DEMAND",
            "RunState": run.state,
            "StartedOn": run.started,
            "TaskInstances": [task["TaskInstanceId"] for task in run.tasks()],
        }
        if run.ended:
            detail |= {"CompletedOn": run.ended, "Duration": int(run.ended - run.started)}
        if run.error:
            detail["ErrorMessage"] = run.error[:255]
        return {**named, "RunType": "ON_DEMAND", "RunDetail": detail}

    def _list_runs(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow = self._workflow(parameters)
        entries = [
            {
                "RunId": run_id,
                "WorkflowArn": workflow.arn,
                "WorkflowVersion": run.version,
                "RunType": "ON_DEMAND",
                "RunDetailSummary": {"Status": run.state, "StartedAt": run.started},
            }
            for run_id, run in workflow.runs.items()
        ]
        return _page("WorkflowRuns", entries, parameters)

    def _list_tasks(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow, run = self._run(parameters)
        named = {"WorkflowArn": workflow.arn, "RunId": parameters["RunId"]}
        keys = ("TaskInstanceId", "Status", "OperatorName", "DurationInSeconds")
        entries = [{**named, **{key: task[key] for key in keys if key in task}} for task in run.tasks()]
        return _page("TaskInstances", entries, parameters)

    def _get_task(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        workflow, run = self._run(parameters)
        for task in run.tasks():
            if task["TaskInstanceId"] == parameters["TaskInstanceId"]:
                xcoms = run.xcoms(task["TaskId"])
                return {"WorkflowArn": workflow.arn, "RunId": parameters["RunId"], **task, "Xcom": xcoms}
        raise _RefusedError("ResourceNotFoundException", "Task instance not found")

    def _workflow(self, parameters: dict[str, Any]) -> _Workflow:
        if parameters["WorkflowArn"] not in self._workflows:
            raise _RefusedError("ResourceNotFoundException", f"Workflow not found: {parameters['WorkflowArn']}")
        return self._workflows[parameters["WorkflowArn"]]

    def _version(self, workflow: _Workflow, version: str | None) -> _Version:
        for entry in workflow.versions:
            if version in (None, entry.version) and (version or entry is workflow.versions[-1]):
                return entry
        raise _RefusedError("ResourceNotFoundException", f"Workflow version not found: {version}")

    def _run(self, parameters: dict[str, Any]) -> tuple[_Workflow, Run]:
        workflow = self._workflow(parameters)
        if parameters["RunId"] not in workflow.runs:
            raise _RefusedError("ResourceNotFoundException", f"Run not found: {parameters['RunId']}")
        return workflow, workflow.runs[parameters["RunId"]]

    def _session(self, role: str, arn: str) -> Session:
        context = {"aws:SourceAccount": ACCOUNT_ID, "aws:SourceArn": arn}
        try:
            return take_role(role, SERVICE, context, arn.rpartition("/")[2][:64])
        except DeniedError:
            raise _RefusedError(
                "ValidationException", f"The service cannot assume the role {role}. Check its trust policy"
            ) from None

    def _check_key(self, workflow: _Workflow, role: str) -> None:
        """The data of a run is encrypted with the role."""
        if key := workflow.encryption.get("KmsKeyId"):
            context = workflow_key_context(workflow.arn)
            try:
                check_role(role, [Right(f"kms:{kind}", key, context) for kind in ("Decrypt", "GenerateDataKey")])
            except DeniedError as denied:
                raise _RefusedError(
                    "ValidationException", f"The role cannot use the workflow's key: {denied}"
                ) from None

    def _snapshot(self, arn: str, name: str, parameters: dict[str, Any]) -> _Version:
        """Read definition and code with the workflow's role, and check them."""
        role = parameters["RoleArn"]
        self._session(role, arn)
        definition = self._read(role, parameters["DefinitionS3Location"])
        location = (parameters.get("Code") or {}).get("S3Location")
        code = self._read(role, location) if location else None
        if problems := find_problems(definition.decode(errors="replace")):
            raise _RefusedError("ValidationException", "; ".join(problems))
        if next(iter(yaml.safe_load(definition))) != name:
            raise _RefusedError("ValidationException", f"The DAG of the definition is not called {name}")
        if code and len(code) > limit("code_bytes"):
            raise _RefusedError("ValidationException", "The code package is too large")
        for key, value in ((parameters.get("Environment") or {}).get("Variables") or {}).items():
            if not _VARIABLE.fullmatch(key) or _RESERVED.match(key):
                raise _RefusedError("ValidationException", f"{key} is not allowed as an environment variable")
            if len(value) > limit("environment_value_characters"):
                raise _RefusedError("ValidationException", f"The value of {key} is too long")
        configuration = json.dumps(parameters, sort_keys=True).encode()
        digest = hashlib.sha256(definition + (code or b"") + configuration + secrets.token_bytes(4)).hexdigest()[:32]
        return _Version(digest, parameters, definition, code)

    def _read(self, role: str, location: dict[str, str]) -> bytes:
        bucket, key = location["Bucket"], location["ObjectKey"]
        try:
            check_role(role, [Right("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")])
            return bytes(get_backend("s3")[ACCOUNT_ID]["aws"].get_object(bucket, key).value)
        except DeniedError as denied:
            raise _RefusedError("ValidationException", f"Failed to read s3://{bucket}/{key}: {denied}") from None
        except Exception:  # noqa: BLE001 - moto's "not found" errors have no common class
            raise _RefusedError("ValidationException", f"Failed to read s3://{bucket}/{key}: it is missing") from None


def _page(name: str, entries: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
    size, start = parameters.get("MaxResults", 50), int(parameters.get("NextToken") or 0)
    more = {"NextToken": str(start + size)} if len(entries) > start + size else {}
    return {name: entries[start : start + size], **more}
