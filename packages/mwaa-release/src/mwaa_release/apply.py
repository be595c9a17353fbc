"""Apply an artifact to a bucket, in an order that keeps the live release working at every moment."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.bucket import Bucket, in_parallel
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.lock import LEASE_SECONDS, locked
from mwaa_release.mwaa_update import update_environment
from mwaa_release.plan import MANAGED_METADATA, Plan, ProjectPlan, damaged_files, make_plan, read_project, read_release
from mwaa_release.progress import Progress, no_progress
from mwaa_release.release import CURRENT, DAGS, LAMBDA_ZIP, PROJECTS, RELEASE_FILE, ROOT_FILES, Artifact, File, sha256
from mwaa_release.serverless.workflows import Change, Target, Workflows, find_targets


@dataclass
class Applied:
    """The result of an apply. `releases` maps each project to its live release, new or not."""

    plan: Plan
    releases: dict[str, str] = field(default_factory=dict)
    uploaded: int = 0
    copied: int = 0
    deleted: int = 0
    environment_updated: bool = False
    functions_updated: list[str] = field(default_factory=list)
    workflows: list[Change] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """False if nothing had to change."""
        return not self.plan.is_empty or bool(self.functions_updated) or self.environment_updated


def apply(
    artifact: Artifact,
    bucket: Bucket,
    progress: Progress = no_progress,
    lambda_client: Any = None,
    lambda_functions: Sequence[str] = (),
    mwaa_client: Any = None,
    environment: str | None = None,
    workflows: Workflows | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Applied:
    """Upload new files, make the new releases live, then delete old files.

    The order is: the files of each dbt project, its release.json last; wheels, requirements.txt and startup.sh, and
    MWAA's update; DAG files; the code of the functions; CURRENT; workflows; deletions. After an interruption the live
    release is still complete, and the next apply does the rest. A project without changes gets no new release.

    Args:
        artifact: the artifact of `build`.
        bucket: the bucket that MWAA reads.
        progress: receives the current action, the number of finished objects and the total.
        lambda_client: boto3 client for Lambda, required with `lambda_functions`.
        lambda_functions: names of the functions to update with the code of `lambda/`.
        mwaa_client: boto3 client for MWAA, required with `environment`.
        environment: MWAA environment to update with requirements.txt and startup.sh; None: do not update.
        workflows: of the account; None: do not create or update them.
        lease_seconds: how long a killed release blocks the next one.

    Raises:
        DeployError, SetupError: AWS refused a request; the message names it.
    """
    with locked(bucket, progress, lease_seconds) as lease:
        progress(f"comparing with s3://{bucket.name}", 0, 1)
        plan = make_plan(artifact, bucket, workflows)
        applied = Applied(plan)
        for project in plan.projects:
            _upload_release(artifact, bucket, project, applied, progress)
        _upload_files(artifact, bucket, plan.wheels, applied, progress, "wheels")
        _upload_files(artifact, bucket, plan.code, applied, progress, "code package")
        # Upload code after its imports: requirements first, then packages, then the DAG files.
        changed = plan.added + plan.changed
        _upload_files(artifact, bucket, [file for file in changed if file.path in ROOT_FILES], applied, progress)
        if environment:
            applied.environment_updated = update_environment(mwaa_client, environment, bucket, progress)
        package_files = [file for file in changed if file.path.count("/") > DAGS.count("/")]
        _upload_files(artifact, bucket, package_files, applied, progress)
        dag_files = [file for file in changed if file.path.count("/") == DAGS.count("/")]
        _upload_files(artifact, bucket, dag_files, applied, progress)
        applied.functions_updated = [
            name for name in lambda_functions if _update_function(artifact, lambda_client, name)
        ]
        lease.check()
        for project in plan.projects:
            if project.switch:
                _set_current(bucket, project.project_name, project.release_id)
            applied.releases[project.project_name] = project.release_id
        if workflows:
            live = applied.releases.items()
            if targets := [target for name, release_id in live for target in live_targets(bucket, name, release_id)]:
                applied.workflows = workflows.deploy(targets, progress)
        old = [key for project in plan.projects for key in project.removed] + plan.deleted
        if old:
            progress("deleting old files", 0, len(old))
            bucket.delete(old)
            applied.deleted = len(old)
    return applied


def _upload_release(
    artifact: Artifact, bucket: Bucket, project: ProjectPlan, applied: Applied, progress: Progress
) -> None:
    release = project.new
    if release is None:
        return

    def upload(file: File) -> bool:
        key = release.prefix + file.path
        data = artifact.read_bytes(key)
        if sha256(data) != file.sha256:
            raise DeployError(f"{artifact.folder / key} differs from {RELEASE_FILE}: it was changed; build again")
        bucket.put(key, data, file.sha256)
        return True

    def copy(file: File, source: str) -> bool:
        return not bucket.copy(source, release.prefix + file.path, file.sha256) and upload(file)

    jobs: list[Callable[[], bool]] = [partial(upload, file) for file in project.uploads]
    jobs += [partial(copy, file, source) for file, source in project.copies]
    uploaded = in_parallel(
        jobs, lambda done: progress(f"release {project.project_name}/{release.release_id}", done, len(jobs))
    )
    applied.uploaded += sum(uploaded) + 1
    applied.copied += len(uploaded) - sum(uploaded)
    data = artifact.read_bytes(release.prefix + RELEASE_FILE)
    bucket.put(release.prefix + RELEASE_FILE, data, sha256(data))


def _upload_files(
    artifact: Artifact,
    bucket: Bucket,
    files: list[File],
    applied: Applied,
    progress: Progress,
    kind: str = "DAG files",
) -> None:
    metadata = {MANAGED_METADATA: artifact.releases[0].release_id}
    jobs = [partial(bucket.put, file.path, artifact.read_bytes(file.path), file.sha256, metadata) for file in files]
    in_parallel(jobs, lambda done: progress(kind, done, len(jobs)))
    applied.uploaded += len(files)


def _set_current(bucket: Bucket, project_name: str, release_id: str) -> None:
    data = f"{release_id}\n".encode()
    bucket.put(f"{PROJECTS}{project_name}/{CURRENT}", data, sha256(data))


def _update_function(artifact: Artifact, lambda_client: Any, name: str) -> bool:
    path = artifact.folder / LAMBDA_ZIP
    if not path.is_file():
        raise SetupError(
            f"{artifact.folder} has no {LAMBDA_ZIP}, because the repository had no lambda/ folder when it was built; "
            "remove --lambda-function (DEPLOY_LAMBDA_FUNCTION), or add the folder and build again"
        )
    code = path.read_bytes()
    try:
        checksum = base64.b64encode(hashlib.sha256(code).digest()).decode()
        if lambda_client.get_function_configuration(FunctionName=name)["CodeSha256"] == checksum:
            return False
        lambda_client.update_function_code(FunctionName=name, ZipFile=code)
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"updating the code of Lambda function {name}") from error
    return True


def live_targets(bucket: Bucket, project_name: str, release_id: str) -> list[Target]:
    """Return the workflows of a release in the bucket.

    Raises:
        DeployError, SetupError: the release cannot be read.
    """
    release = read_release(bucket, project_name, release_id)
    return find_targets(release, bucket.read) if release else []


def rollback(
    bucket: Bucket,
    project_name: str,
    release_id: str | None = None,
    workflows: Workflows | None = None,
) -> tuple[str, str]:
    """Make an earlier release live: update its workflows, and write CURRENT. Nothing else is uploaded or deleted.

    Args:
        bucket: the bucket.
        project_name: the project.
        release_id: release to go back to; None: the newest complete release before the live one.
        workflows: of the account; None: do not update them.

    Returns:
        The release that was live, and the release that is live now.

    Raises:
        DeployError: the release does not exist or is not complete.
    """
    with locked(bucket):
        sizes = bucket.sizes(f"{PROJECTS}{project_name}/")
        state = read_project(bucket, project_name, sizes)
        if not state.complete:
            raise SetupError(
                f"s3://{bucket.name}/{PROJECTS}{project_name}/ has no release; check the project and bucket"
            )
        earlier = [name for name in state.complete if state.live_id is None or name < state.live_id]
        target = release_id or (earlier[0] if earlier else None)
        if target is None:
            raise DeployError(f"{project_name}: there is no release before {state.live_id} to roll back to")
        if target not in state.complete:
            raise DeployError(
                f"{project_name}: release {target} is not in s3://{bucket.name}; available: {', '.join(state.complete)}"
            )
        release = read_release(bucket, project_name, target)
        damaged = damaged_files(release, sizes) if release else []
        if damaged:
            raise DeployError(
                f"{project_name}: release {target} is damaged: {damaged[0]} is missing or has another size"
            )
        # Before CURRENT, so that the same command can be repeated after an error.
        if workflows and (targets := live_targets(bucket, project_name, target)):
            workflows.deploy(targets, no_progress)
        _set_current(bucket, project_name, target)
    return state.live_id or "none", target
