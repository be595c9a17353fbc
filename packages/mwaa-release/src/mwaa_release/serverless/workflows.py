"""Creates and updates the workflows of releases in Amazon MWAA Serverless. Each update is a version of the workflow."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.config_file import ENVIRONMENT
from mwaa_pipelines.serverless import workflow as variables
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.release import PROJECTS, Release

# The stack infra/workflow.yml writes the role and the network of a workflow into this parameter.
PARAMETER = "/workflows/{name}"
# Of a workflow. The service keeps at most 50, and each contains the code package, of which an account has 75 GB.
KEPT_VERSIONS = 10
_COMPARED = (
    "DefinitionS3Location",
    "Code",
    "RoleArn",
    "Environment",
    "NetworkConfiguration",
    "LoggingConfiguration",
    "Description",
)


@dataclass(frozen=True)
class Target:
    """A workflow of a release.

    Args:
        name: of the workflow, which is that of the pipeline.
        file: its files' name in the release, without ending.
        release: the release.
        code: key of the code package in the bucket.
    """

    name: str
    file: str
    release: Release
    code: str


@dataclass(frozen=True)
class Change:
    """A workflow before and after: release_ids; `before` is None for a new one. `warnings` are the service's."""

    name: str
    before: str | None
    after: str
    is_needed: bool
    warnings: tuple[str, ...] = ()


def find_targets(release: Release, read: Callable[[str], bytes | None]) -> list[Target]:
    """Return the workflows of a release in the environment of this deployment.

    Args:
        release: the release.
        read: returns the bytes of a key of the bucket.

    Raises:
        SetupError: the pipelines differ between environments, and the variable does not say which one this is.
        DeployError: the release is damaged.
    """
    paths = [PurePosixPath(file.path) for file in release.files]
    if PurePosixPath(variables.CODE_FILE) not in paths:
        # A dbt project can have a folder of this name.
        return []
    files = sorted(path.stem for path in paths if str(path.parent) == variables.FOLDER and path.suffix == ".yaml")
    environment = os.environ.get(ENVIRONMENT)
    named = [file for file in files if "@" in file]
    if named and not environment:
        choices = sorted({file.partition("@")[2] for file in named})
        raise SetupError(
            f"the workflow {named[0].partition('@')[0]} differs between environments: set {ENVIRONMENT} to one of "
            f"{', '.join(choices)}"
        )
    code = read(f"{release.prefix}{variables.CODE_FILE}")
    if code is None:
        raise DeployError(f"{release.prefix}{variables.CODE_FILE} is missing; build again")
    chosen = [file for file in files if file.partition("@")[2] in ("", environment)]
    return [Target(file.partition("@")[0], file, release, code.decode().strip()) for file in chosen]


class Workflows:
    """The workflows of an account that run releases of one bucket.

    Args:
        serverless: boto3 client of mwaa-serverless.
        ssm: boto3 client.
        bucket: name of the bucket.
    """

    def __init__(self, serverless: Any, ssm: Any, bucket: str) -> None:
        self._serverless, self._ssm, self._bucket = serverless, ssm, bucket

    def plan(self, targets: Iterable[Target]) -> list[Change]:
        """Return what `deploy` would change.

        Raises:
            DeployError, SetupError: AWS refused a request, or the stack of a workflow is missing.
        """
        arns = self.arns()
        changes = []
        for target in targets:
            existing = self._get(arns[target.name]) if target.name in arns else None
            changes.append(_change(target, existing, self._wanted(target)))
        return changes

    def deploy(self, targets: Iterable[Target], progress: Callable[[str, int, int], None]) -> list[Change]:
        """Create the workflows that are missing, and update those that differ. A run goes on with its version.

        Args:
            targets: of releases that are in the bucket.
            progress: receives the current action.

        Raises:
            DeployError, SetupError: AWS refused a request; the message names the workflow.
        """
        arns, changes = self.arns(), []
        for target in targets:
            progress(f"workflow {target.name}", 0, 1)
            parameters, arn = self._wanted(target), arns.get(target.name)
            existing = self._get(arn) if arn else None
            change = _change(target, existing, parameters)
            if not change.is_needed:
                changes.append(change)
                continue
            with _doing(f"{'updating' if arn else 'creating'} the workflow {target.name}"):
                if arn:
                    self._delete_old_versions(arn)
                    answer = self._serverless.update_workflow(WorkflowArn=arn, **parameters)
                else:
                    # The service wants the key of the bucket, and a workflow keeps its first one.
                    key = {"Type": "CUSTOMER_MANAGED_KEY", "KmsKeyId": self._stack(target.name)["key_arn"]}
                    answer = self._serverless.create_workflow(
                        Name=target.name, EncryptionConfiguration=key, **parameters
                    )
            warnings = tuple(answer.get("Warnings") or ())
            changes.append(Change(change.name, change.before, change.after, True, warnings))
        return changes

    def left_over(self, targets: Iterable[Target], projects: Iterable[str]) -> list[str]:
        """Return the workflows that run releases of these projects, but are not among the targets."""
        names = {target.name for target in targets}
        # The role of a release cannot read more of other workflows than their summary.
        begins = tuple(self._description(project, "") for project in projects)
        return [
            entry["Name"]
            for entry in self._list()
            if entry["Name"] not in names and entry.get("Description", "").startswith(begins)
        ]

    def arn(self, name: str) -> str:
        """Return the ARN of a workflow.

        Raises:
            SetupError: there is no such workflow.
        """
        if name not in (arns := self.arns()):
            raise SetupError(f"there is no workflow {name}; apply a release with it first")
        return arns[name]

    def release_of(self, name: str) -> str:
        """Return the release that a workflow runs.

        Raises:
            SetupError: there is no such workflow.
        """
        return _release_of(self._get(self.arn(name)))

    def arns(self) -> dict[str, str]:
        """Return the ARNs of all workflows of the account by their names."""
        return {entry["Name"]: entry["WorkflowArn"] for entry in self._list()}

    def _list(self) -> list[dict[str, Any]]:
        with _doing("listing workflows"):
            pages = self._serverless.get_paginator("list_workflows").paginate()
            return [entry for page in pages for entry in page["Workflows"]]

    def _description(self, project_name: str, release_id: str) -> str:
        return f"dbt project {project_name} in s3://{self._bucket}, release {release_id}"

    @property
    def _projects(self) -> str:
        return f"s3://{self._bucket}/{PROJECTS.rstrip('/')}"

    def _get(self, arn: str) -> dict[str, Any]:
        with _doing(f"reading the workflow {arn}"):
            return dict(self._serverless.get_workflow(WorkflowArn=arn))

    def _wanted(self, target: Target) -> dict[str, Any]:
        """Return the parameters of a workflow for CreateWorkflow and UpdateWorkflow."""
        stack = self._stack(target.name)
        values = {
            variables.NAME: f"{target.release.project_name}/{target.file}",
            variables.RELEASE: target.release.release_id,
            variables.PROJECTS: self._projects,
            variables.KEPT_RESULTS: f"s3://{self._bucket}/kept_results",
        }
        definition = f"{target.release.prefix}{variables.FOLDER}/{target.file}.yaml"
        parameters = {
            "DefinitionS3Location": {"Bucket": self._bucket, "ObjectKey": definition},
            "Code": {"S3Location": {"Bucket": self._bucket, "ObjectKey": target.code}},
            "RoleArn": stack["role_arn"],
            "Description": self._description(target.release.project_name, target.release.release_id),
            "Environment": {"Variables": values},
            "LoggingConfiguration": {"LogGroupName": stack["log_group"]},
        }
        if stack.get("subnets"):
            parameters["NetworkConfiguration"] = {
                "SubnetIds": stack["subnets"].split(","),
                "SecurityGroupIds": [stack["security_group"]],
            }
        return parameters

    def _stack(self, name: str) -> dict[str, str]:
        parameter = PARAMETER.format(name=name)
        advice = f"Create or update the stack infra/workflow.yml of {name}"
        with _doing(f"reading the parameter {parameter}"):
            try:
                text = self._ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
            except self._ssm.exceptions.ParameterNotFound:
                raise SetupError(
                    f"the workflow {name} has no role: the parameter {parameter} is missing. {advice}"
                ) from None
        try:
            stack = dict(json.loads(text))
            return {**stack, **{name: str(stack[name]) for name in ("role_arn", "log_group", "key_arn")}}
        except (ValueError, KeyError, TypeError) as error:
            raise SetupError(f"the parameter {parameter} is not of infra/workflow.yml: {error!r}. {advice}") from None

    def _delete_old_versions(self, arn: str) -> None:
        """Make room for a version. The newest one stays, and a rollback needs none of the others."""
        pages = self._serverless.get_paginator("list_workflow_versions").paginate(WorkflowArn=arn)
        versions = [entry for page in pages for entry in page.get("WorkflowVersions", [])]
        versions.sort(key=lambda entry: (bool(entry.get("IsLatestVersion")), entry["CreatedAt"]))
        for entry in versions[: 1 - KEPT_VERSIONS]:
            self._serverless.delete_workflow(WorkflowArn=arn, WorkflowVersion=entry["WorkflowVersion"])


def _change(target: Target, existing: dict[str, Any] | None, parameters: dict[str, Any]) -> Change:
    before = _release_of(existing) if existing else None
    is_needed = existing is None or any(_plain(existing.get(key)) != _plain(parameters.get(key)) for key in _COMPARED)
    return Change(target.name, before, target.release.release_id, is_needed)


def _release_of(workflow: dict[str, Any]) -> str:
    values = (workflow.get("Environment") or {}).get("Variables") or {}
    return str(values.get(variables.RELEASE, "unknown"))


def _plain(value: Any) -> Any:
    """Return a value without what the service can add: empty members, and the versions of S3 objects."""
    if isinstance(value, dict):
        return {k: _plain(item) for k, item in value.items() if k != "VersionId" and item not in (None, [], {})} or None
    return sorted(value) if isinstance(value, list) else value or None


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, what) from error
