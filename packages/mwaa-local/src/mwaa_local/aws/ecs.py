"""Answers the calls of ECS that run tasks: each task runs the command of its image as a process on this machine.

moto runs no code. Clusters and task definitions are moto's. A task has its role, environment, memory limit and log
stream, and passes through the states of a task on Fargate, with AWS's words for what goes wrong.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html (read 2026-11)
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
from botocore.validate import ParamValidator
from moto.backends import get_backend
from werkzeug.wrappers import Request, Response

from mwaa_local.aws import calls, rights
from mwaa_local.aws.access import DeniedError, Session, take_role
from mwaa_local.aws.container import Container
from mwaa_local.settings import ACCOUNT_ID, Settings
from mwaa_pipelines.ecs_settings import FARGATE_MEMORY

SERVICE = "ecs-tasks.amazonaws.com"
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
_OVERRIDES_CHARACTERS = 8192
_STARTED_BY = re.compile(r"[A-Za-z0-9/_-]{0,128}")
_CLIENT_TOKEN = re.compile(r"[!-~]{1,64}")
# DescribeTasks shows a stopped task for an hour.
_SHOWN_SECONDS = 3600
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html
_FILTERS = {"containerInstance", "family", "startedBy", "serviceName", "desiredStatus", "launchType", "daemonName"}
_LISTED = 100
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html
_DESCRIBED = 100
_JSON = {"Content-Type": "application/x-amz-json-1.1"}


class _RefusedError(Exception):
    def __init__(self, kind: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.response = Response(json.dumps({"__type": kind, "message": message, **members}), 400, _JSON)


class Tasks:
    """The tasks of one stand-in. `close` ends those that still run."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Give each task a folder under `folder`. `settings` have the address of the stand-in."""
        self._folder, self._settings = folder, settings
        self._model = botocore.session.Session().get_service_model("ecs")
        self._lock = threading.Lock()
        self._tasks: dict[str, tuple[dict[str, Any], Container]] = {}
        # The task and the request of each client token.
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}
        self._calls: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "RunTask": self._run,
            "DescribeTasks": self._describe,
            "StopTask": self._stop,
            "ListTasks": self._list,
        }

    def answer(self, request: Request, region: str) -> Response | None:
        """Return the answer to a call about tasks, or None for moto's."""
        call = calls.read(request, "ecs", region)
        if call.operation not in self._calls:
            return None
        try:
            return Response(json.dumps(self._perform(call.operation, call.parameters, region)), 200, _JSON)
        except _RefusedError as refused:
            return refused.response

    def close(self) -> None:
        """Kill all tasks, and wait for their end."""
        with self._lock:
            containers = [container for _, container in self._tasks.values()]
        for container in containers:
            container.kill()

    def _perform(self, operation: str, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        report = ParamValidator().validate(parameters, self._model.operation_model(operation).input_shape)
        if report.has_errors():
            raise _RefusedError("InvalidParameterException", report.generate_report())
        return self._calls[operation](parameters, region)

    def _run(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        cluster = _cluster(parameters, region)
        definition = rights.task_definition(parameters["taskDefinition"], ACCOUNT_ID, region)
        if not definition:
            raise _RefusedError("ClientException", "TaskDefinition not found.")
        overrides = parameters.get("overrides", {})
        _check(parameters, overrides)
        (container,) = definition["containerDefinitions"]
        cpu, memory = (int(overrides.get(name) or definition[name]) for name in ("cpu", "memory"))
        if memory not in FARGATE_MEMORY.get(cpu, ()):
            raise _RefusedError("ClientException", "No Fargate configuration exists for given values.")
        token = parameters.get("clientToken")
        with self._lock:
            if token and token in self._tokens:
                arn, request = self._tokens[token]
                if request == parameters:
                    return {"tasks": [self._shown(arn)], "failures": []}
                raise _RefusedError(
                    "ConflictException",
                    "The clientToken is already in use with a different RunTask request.",
                    resourceIds=[arn],
                )
        task_id = uuid.uuid4().hex
        arn = f"{cluster.replace(':cluster/', ':task/')}/{task_id}"
        session = self._session(overrides.get("taskRoleArn") or definition["taskRoleArn"], arn)
        agent = definition["executionRoleArn"]
        self._session(agent, arn)
        changed = next(
            (item for item in overrides.get("containerOverrides", []) if item["name"] == container["name"]), {}
        )
        environment = {item["name"]: item["value"] for item in container.get("environment", [])}
        environment |= {item["name"]: item["value"] for item in changed.get("environment", [])}
        task = {
            "taskArn": arn,
            "clusterArn": cluster,
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "launchType": "FARGATE",
            "cpu": str(cpu),
            "memory": str(memory),
            "createdAt": time.time(),
            "overrides": overrides,
            **({"startedBy": parameters["startedBy"]} if "startedBy" in parameters else {}),
        }
        running = Container(
            self._folder / task_id,
            self._settings,
            definition=container,
            agent_role=agent,
            command=changed.get("command"),
            environment={**environment, **session.environment()},
            memory=memory,
            log_stream=task_id,
        )
        with self._lock:
            self._tasks[arn] = task, running
            if token:
                self._tokens[token] = arn, parameters
        running.start()
        return {"tasks": [self._shown(arn)], "failures": []}

    def _session(self, role: str, task_arn: str) -> Session:
        context = {"aws:SourceAccount": ACCOUNT_ID, "aws:SourceArn": task_arn}
        try:
            return take_role(role, SERVICE, context, task_arn.rpartition("/")[2])
        except DeniedError:
            raise _RefusedError(
                "ClientException",
                f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the "
                "role being passed has the proper trust relationship and permissions and that your IAM user has "
                "permissions to pass this role.",
            ) from None

    def _describe(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        cluster = _cluster(parameters, region)
        if len(parameters["tasks"]) > _DESCRIBED:
            raise _RefusedError("InvalidParameterException", f"at most {_DESCRIBED} tasks can be described")
        tasks, failures = [], []
        for name in parameters["tasks"]:
            arn = _task_arn(cluster, name)
            if self._is_shown(arn):
                tasks.append(self._shown(arn))
            else:
                failures.append({"arn": arn, "reason": "MISSING"})
        return {"tasks": tasks, "failures": failures}

    def _stop(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        arn = _task_arn(_cluster(parameters, region), parameters["task"])
        if not self._is_shown(arn):
            raise _RefusedError("InvalidParameterException", "The referenced task was not found.")
        self._tasks[arn][1].stop("UserInitiated", parameters.get("reason") or "Task stopped by user")
        return {"task": self._shown(arn)}

    def _list(self, parameters: dict[str, Any], region: str) -> dict[str, Any]:
        cluster, filters = _cluster(parameters, region), _FILTERS & parameters.keys()
        if "startedBy" in filters and len(filters) > 1:
            raise _RefusedError("InvalidParameterException", "startedBy must be the only filter")
        conditions = {"desiredStatus": parameters.get("desiredStatus", "RUNNING"), "clusterArn": cluster}
        conditions |= {name: parameters[name] for name in filters & {"startedBy", "launchType"}}
        if unknown := filters - conditions.keys():
            raise _RefusedError(
                "InvalidParameterException", f"the AWS stand-in does not know the filter {min(unknown)}"
            )
        with self._lock:
            arns = list(self._tasks)
        tasks = [self._shown(arn) for arn in arns if self._is_shown(arn)]
        matches = [
            task["taskArn"] for task in tasks if all(task.get(name) == value for name, value in conditions.items())
        ]
        start, size = int(parameters.get("nextToken", 0)), parameters.get("maxResults", _LISTED)
        following = {"nextToken": str(start + size)} if len(matches) > start + size else {}
        return {"taskArns": matches[start : start + size], **following}

    def _is_shown(self, arn: str) -> bool:
        stopped_at = self._tasks[arn][1].state.get("stoppedAt") if arn in self._tasks else 0
        return stopped_at is None or time.time() - stopped_at < _SHOWN_SECONDS

    def _shown(self, arn: str) -> dict[str, Any]:
        task, container = self._tasks[arn]
        state = {name: value for name, value in container.state.items() if value is not None}
        result = {name: state.pop(name) for name in ("exitCode", "reason") if name in state}
        definition = container.definition
        described = {"name": definition["name"], "image": definition["image"], "lastStatus": state["lastStatus"]}
        return {**task, **state, "containers": [{**described, "taskArn": arn, **result}]}


def _check(parameters: dict[str, Any], overrides: dict[str, Any]) -> None:
    if parameters.get("launchType") != "FARGATE":
        raise _RefusedError("InvalidParameterException", "the AWS stand-in runs tasks with launchType FARGATE only")
    if not parameters.get("networkConfiguration", {}).get("awsvpcConfiguration", {}).get("subnets"):
        raise _RefusedError(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        )
    if len(json.dumps(overrides)) > _OVERRIDES_CHARACTERS:
        raise _RefusedError(
            "InvalidParameterException", f"Container Overrides length must be at most {_OVERRIDES_CHARACTERS}"
        )
    if not _STARTED_BY.fullmatch(parameters.get("startedBy", "")):
        raise _RefusedError(
            "InvalidParameterException",
            "startedBy must have at most 128 letters, numbers, hyphens, forward slashes and underscores.",
        )
    if not _CLIENT_TOKEN.fullmatch(parameters.get("clientToken", "none")):
        raise _RefusedError("InvalidParameterException", "clientToken must have at most 64 visible ASCII characters.")


def _cluster(parameters: dict[str, Any], region: str) -> str:
    name = parameters.get("cluster", "default").rpartition("/")[2]
    clusters = get_backend("ecs")[ACCOUNT_ID][region].clusters
    if name not in clusters or clusters[name].status != "ACTIVE":
        raise _RefusedError("ClusterNotFoundException", "Cluster not found.")
    return str(clusters[name].arn)


def _task_arn(cluster: str, name: str) -> str:
    return name if name.startswith("arn:") else f"{cluster.replace(':cluster/', ':task/')}/{name}"
