"""Compare an artifact with a bucket by content (SHA-256), never by time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from mwaa_pipelines.serverless.workflow import CODE_FILE
from mwaa_release.bucket import in_parallel
from mwaa_release.errors import DeployError
from mwaa_release.release import (
    CODE,
    CURRENT,
    DAGS,
    PROJECTS,
    RELEASE_FILE,
    RELEASE_ID,
    ROOT_FILES,
    WHEELS,
    Artifact,
    File,
    Release,
    sha256,
)
from mwaa_release.serverless.workflows import Change, Target, Workflows, find_targets

KEPT_RELEASES = 5
# Metadata key of every DAG and root file that this tool uploads. A file without it is never deleted.
MANAGED_METADATA = "release-id"


class Store(Protocol):
    """The target of a plan: a bucket, or the contents that another artifact would give it."""

    @property
    def name(self) -> str:
        """The name to show."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys that start with `prefix`, with their sizes in bytes."""

    def read(self, key: str) -> bytes | None:
        """Return the bytes of `key`, or None."""

    def describe(self, key: str) -> dict[str, Any] | None:
        """Return `sha256` and `metadata` of the object at `key`, or None."""


class AppliedArtifact:
    """An empty bucket after an artifact was applied. It shows the changes of a merge without AWS."""

    def __init__(self, artifact: Artifact) -> None:
        self.name = str(artifact.folder)
        packages = [file.path for file in (*artifact.wheels, *artifact.code)]
        self._content: dict[str, bytes] = {key: artifact.read_bytes(key) for key in (*artifact.files, *packages)}
        for release in artifact.releases:
            for path in (*(file.path for file in release.files), RELEASE_FILE):
                self._content[release.prefix + path] = artifact.read_bytes(release.prefix + path)
            current = f"{PROJECTS}{release.project_name}/{CURRENT}"
            self._content[current] = f"{release.release_id}\n".encode()

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys that start with `prefix`, with their sizes in bytes."""
        return {key: len(data) for key, data in self._content.items() if key.startswith(prefix)}

    def read(self, key: str) -> bytes | None:
        """Return the bytes of `key`, or None."""
        return self._content.get(key)

    def describe(self, key: str) -> dict[str, Any] | None:
        """Return `sha256` and `metadata` of the object at `key`, or None."""
        data = self._content.get(key)
        return None if data is None else {"sha256": sha256(data), "metadata": {MANAGED_METADATA: "applied"}}


@dataclass(frozen=True)
class ProjectState:
    """One project in the bucket: the live release, and all other releases."""

    project_name: str
    live: Release | None
    live_id: str | None
    complete: tuple[str, ...]
    incomplete: tuple[str, ...]


@dataclass
class ProjectPlan:
    """The changes to one project. `release_id` is the live release after the apply."""

    project_name: str
    before: str | None
    release_id: str
    new: Release | None = None
    uploads: list[File] = field(default_factory=list)
    copies: list[tuple[File, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    switch: bool = False


@dataclass
class Plan:
    """All changes of an apply, in its order."""

    bucket: str
    projects: list[ProjectPlan] = field(default_factory=list)
    added: list[File] = field(default_factory=list)
    changed: list[File] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unmanaged: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    wheels: list[File] = field(default_factory=list)
    code: list[File] = field(default_factory=list)
    workflows: list[Change] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True if the bucket already matches the artifact."""
        changes = (self.added, self.changed, self.deleted, self.wheels, self.code)
        changed = any(change.is_needed for change in self.workflows)
        return not (any(changes) or changed or any(_changes(project) for project in self.projects))

    @property
    def needs_environment_update(self) -> list[str]:
        """The changed files that take effect only after an update of the MWAA environment."""
        return [file.path for file in self.added + self.changed if file.path in ROOT_FILES]


def _changes(project: ProjectPlan) -> bool:
    return bool(project.new or project.removed or project.switch)


def project_names(keys: Iterable[str]) -> list[str]:
    """Return the names of the projects that a bucket's keys belong to, sorted."""
    return sorted({key.removeprefix(PROJECTS).split("/")[0] for key in keys if key.startswith(PROJECTS)})


def read_project(bucket: Store, project_name: str, sizes: dict[str, int]) -> ProjectState:
    """Read the state of a project in the bucket.

    Args:
        bucket: the bucket.
        project_name: the project.
        sizes: the listing of `dags/`.
    """
    folder = f"{PROJECTS}{project_name}/"
    names = {key.removeprefix(folder).split("/")[0] for key in sizes if key.startswith(folder)}
    release_ids = sorted((name for name in names if RELEASE_ID.fullmatch(name)), reverse=True)
    complete = [name for name in release_ids if f"{folder}{name}/{RELEASE_FILE}" in sizes]
    current = bucket.read(f"{folder}{CURRENT}") if f"{folder}{CURRENT}" in sizes else None
    live_id = current.decode(errors="replace").strip() if current is not None else None
    live = read_release(bucket, project_name, live_id) if live_id in complete else None
    return ProjectState(
        project_name, live, live_id, tuple(complete), tuple(name for name in release_ids if name not in complete)
    )


def read_release(bucket: Store, project_name: str, release_id: str) -> Release | None:
    """Read a release.json from the bucket; None if it does not exist."""
    key = f"{PROJECTS}{project_name}/{release_id}/{RELEASE_FILE}"
    data = bucket.read(key)
    return None if data is None else Release.from_json(data, f"s3://{bucket.name}/{key}")


def damaged_files(release: Release, sizes: dict[str, int]) -> list[str]:
    """Return the keys of a release that are missing in the bucket or have another size."""
    return [release.prefix + file.path for file in release.files if sizes.get(release.prefix + file.path) != file.size]


def changed_by_hand(release: Release, bucket: Store, sizes: dict[str, int]) -> list[str]:
    """Return the keys of a release whose content in the bucket differs, by S3's SHA-256."""
    damaged = set(damaged_files(release, sizes))
    same_size = [file for file in release.files if release.prefix + file.path not in damaged]
    stored = in_parallel([partial(bucket.describe, release.prefix + file.path) for file in same_size])
    for file, stored_file in zip(same_size, stored, strict=True):
        if not stored_file or stored_file["sha256"] != file.sha256:
            damaged.add(release.prefix + file.path)
    return sorted(damaged)


def make_plan(artifact: Artifact, bucket: Store, workflows: Workflows | None = None) -> Plan:
    """Compare an artifact with a bucket, and with the workflows of MWAA Serverless. Only reads.

    Args:
        artifact: the artifact of `build`.
        bucket: the bucket.
        workflows: of the account; None: do not compare them.

    Raises:
        DeployError, SetupError: the bucket cannot be read.
    """
    sizes = bucket.sizes(DAGS)
    plan = Plan(bucket.name)
    for release in artifact.releases:
        state = read_project(bucket, release.project_name, sizes)
        drifted = changed_by_hand(state.live, bucket, sizes) if state.live else []
        plan.projects.append(_plan_project(release, state, bucket, sizes, bool(drifted)))
        plan.drifted += drifted
    _plan_files(artifact, bucket, sizes, plan)
    # A version of a package has one wheel, so its name and size identify it. Old wheels stay: running containers need
    # them until the environment has its new startup.sh.
    stored = bucket.sizes(WHEELS) if artifact.wheels else {}
    plan.wheels = [file for file in artifact.wheels if stored.get(file.path) != file.size]
    # Its name contains the digest of its content. Old ones stay, for rollbacks.
    stored = bucket.sizes(CODE) if artifact.code else {}
    plan.code = [file for file in artifact.code if stored.get(file.path) != file.size]
    targets = (
        [target for project in plan.projects for target in _targets(artifact, bucket, project)] if workflows else []
    )
    # A release without workflows needs no permissions for them, unless an earlier one has left some.
    if workflows and (targets or any(key.endswith(f"/{CODE_FILE}") for key in sizes)):
        plan.workflows = workflows.plan(targets)
        plan.left_over = workflows.left_over(targets, (project.project_name for project in plan.projects))
    return plan


def _targets(artifact: Artifact, bucket: Store, project: ProjectPlan) -> list[Target]:
    """Return the workflows of the release that will be live, which can be the one that is live now."""
    for release in artifact.releases:
        if (release.project_name, release.release_id) == (project.project_name, project.release_id):
            return find_targets(release, artifact.read_bytes)
    live = read_release(bucket, project.project_name, project.release_id)
    return find_targets(live, bucket.read) if live else []


def _plan_project(
    release: Release, state: ProjectState, bucket: Store, sizes: dict[str, int], damaged: bool
) -> ProjectPlan:
    live = state.live
    if live and live.content_sha256 == release.content_sha256 and not damaged:
        plan = ProjectPlan(release.project_name, live.release_id, live.release_id)
    else:
        switch = state.live_id != release.release_id
        plan = ProjectPlan(release.project_name, state.live_id, release.release_id, switch=switch)
        existing = read_release(bucket, release.project_name, release.release_id)
        if existing and existing.content_sha256 != release.content_sha256:
            raise DeployError(f"s3://{bucket.name}/{release.prefix} has another release with the same id; build again")
        if not existing or changed_by_hand(existing, bucket, sizes):
            plan.new = release
            sources = {file.sha256: live.prefix + file.path for file in live.files} if live and not damaged else {}
            for file in release.files:
                if file.sha256 in sources:
                    plan.copies.append((file, sources[file.sha256]))
                else:
                    plan.uploads.append(file)
    plan.removed = _old_keys(plan, state, sizes)
    return plan


def _old_keys(plan: ProjectPlan, state: ProjectState, sizes: dict[str, int]) -> list[str]:
    newest = sorted({*state.complete, plan.release_id}, reverse=True)[:KEPT_RELEASES]
    keep = {*newest, plan.release_id, state.live_id}
    expired = [name for name in (*state.complete, *state.incomplete) if name not in keep]
    folder = f"{PROJECTS}{plan.project_name}/"
    keys = [key for key in sizes if key.startswith(tuple(f"{folder}{name}/" for name in expired))]
    # Delete release.json first: without it, no reader takes a partly deleted release for a complete one.
    return sorted(keys, key=lambda key: (not key.endswith(f"/{RELEASE_FILE}"), key))


def _plan_files(artifact: Artifact, bucket: Store, sizes: dict[str, int], plan: Plan) -> None:
    others = [key for key in sizes if not key.startswith(PROJECTS) and not key.endswith("/")]
    known = sorted({*artifact.files, *others})
    described = in_parallel([partial(bucket.describe, key) for key in known])
    for key, stored in zip(known, described, strict=True):
        file = artifact.files.get(key)
        if file and not stored:
            plan.added.append(file)
        elif file and stored and stored["sha256"] != file.sha256:
            plan.changed.append(file)
            # Only this tool writes the metadata.
            if MANAGED_METADATA not in stored["metadata"]:
                plan.drifted.append(key)
        elif not file and stored:
            (plan.deleted if MANAGED_METADATA in stored["metadata"] else plan.unmanaged).append(key)
