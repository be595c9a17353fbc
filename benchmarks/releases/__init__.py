"""Benchmarks of releases: plan and apply of a thousand models, compared with `aws s3 sync` on the same S3."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from botocore.config import Config

from benchmarks import Figure, interleaved
from mwaa_local.aws import seed
from mwaa_local.processes import base_environment, mark_this_command, spawn, stop, wait_for_line
from mwaa_local.settings import HOST, REPOSITORY, Settings, SetupError
from mwaa_release.apply import apply
from mwaa_release.bucket import PARALLEL, Bucket
from mwaa_release.plan import make_plan
from mwaa_release.release import RELEASE_FILE, Artifact, Release, list_files

_MODELS = 1000
_ALTERNATIVE = "aws s3 sync"
_PAIRS = 3


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure releases. This takes about two minutes. The first call installs the AWS CLI into the state folder.

    Raises:
        SetupError: S3 did not start, or the AWS CLI could not be installed.
    """
    with running_s3() as settings:
        counted = _Counted(settings)
        first, figure = first_release(settings, counted.s3, _MODELS, say)
        second = _artifact(settings.state / "two", 1, _MODELS)
        figures = [figure]
        s3 = seed.client(settings, "s3")

        bucket = Bucket("bench-plan", counted.s3)
        s3.create_bucket(Bucket=bucket.name)
        apply(first, bucket)
        say("a plan when nothing changed")
        counted.uploads = 0
        started = time.perf_counter()
        if not make_plan(first, bucket).is_empty:
            raise SetupError("the plan of the release that was just applied is not empty")
        figures.append(Figure(f"plan of {_MODELS} unchanged models", time.perf_counter() - started, "s", goal=5.0))
        apply(first, bucket)
        # The lock does not count as an upload.
        figures.append(Figure("uploads when nothing changed", counted.uploads, "files", goal=0))
        say("one changed model")
        counted.uploads = 0
        apply(second, bucket)
        figures.append(
            Figure(
                "uploads for one changed model, beside release.json and CURRENT", counted.uploads - 2, "files", goal=3
            )
        )
    return figures


def first_release(settings: Settings, s3: Any, models: int, say: Callable[[str], None]) -> tuple[Artifact, Figure]:
    """Measure the first release of a project with this many models, and return it, too."""
    say(f"the first release of {models:,} models, and {_ALTERNATIVE} of the same files")
    artifact = _artifact(settings.state / "one", 0, models)
    sync = _awscli(settings, say)
    buckets = (f"bench-{number}" for number in count())

    def into_new_bucket(upload: Callable[[str], object]) -> float:
        name = next(buckets)
        s3.create_bucket(Bucket=name)
        started = time.perf_counter()
        upload(name)
        return time.perf_counter() - started

    ours, theirs = interleaved(
        _PAIRS,
        lambda: into_new_bucket(lambda name: apply(artifact, Bucket(name, s3))),
        lambda: into_new_bucket(lambda name: sync(artifact.folder, name)),
    )
    return artifact, Figure(f"apply of {models:,} new models", ours, "s", _ALTERNATIVE, theirs, 1.0)


class _Counted:
    """An S3 client that counts its uploads."""

    def __init__(self, settings: Settings) -> None:
        self.uploads = 0
        session = {"config": Config(max_pool_connections=PARALLEL)}
        self.s3 = seed.boto3.client(
            "s3",
            endpoint_url=settings.aws_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the stand-in accepts any key
            **session,
        )
        self.s3.meta.events.register("before-send.s3.PutObject", self._count)

    def _count(self, request: Any, **_more: Any) -> None:
        if not request.url.endswith("/mwaa_release.lock"):
            self.uploads += 1


@contextlib.contextmanager
def running_s3() -> Iterator[Settings]:
    """Run a separate AWS stand-in until the context ends."""
    checkout = Settings.from_environment()
    state = checkout.state / "bench-releases"
    shutil.rmtree(state, ignore_errors=True)
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings(state, checkout.warehouse_port, port, checkout.airflow_port)
    mark_this_command(checkout.state)
    environment = {**base_environment(), **settings.aws_environment(), "LOCAL_DIR": str(state)}
    environment["LOCAL_AWS_PORT"] = str(port)
    children = []
    try:
        command = [sys.executable, "-m", "mwaa_local", "aws"]
        children.append(spawn("aws", command, environment, state / "aws.log", REPOSITORY))
        wait_for_line(children[0], "ready", 120)
        yield settings
    finally:
        stop(children)
        shutil.rmtree(state, ignore_errors=True)


def _artifact(folder: Path, changed: int, models: int) -> Artifact:
    """Create a release of this many models like `build`, without dbt. `changed` is part of one model's text."""
    release_id = f"20260101T00000{changed}Z-abcdef1"
    project = folder / "dags/dbt/bench" / release_id
    (project / "models").mkdir(parents=True)
    for number in range(models):
        text = f"select {number} as id, '{'x' * 400}' as filler, {changed if number == 0 else 0} as changed\n"
        (project / "models" / f"model_{number}.sql").write_text(text)
    nodes = {
        f"model.bench.model_{number}": {"package_name": "bench", "original_file_path": f"models/model_{number}.sql"}
        for number in range(models)
    }
    # As large as a real manifest.
    filler = {"changed": changed, "filler": "x" * 3_000_000}
    (project / "manifest.json").write_text(
        json.dumps({"metadata": {"project_name": "bench"}, "nodes": nodes, **filler})
    )
    (folder / "dags/pipelines.py").write_text("# the same in both\n")
    release = Release(release_id, "bench", "abcdef1" * 5, "2026-01-01", "1.11.16", list_files(project))
    (project / RELEASE_FILE).write_bytes(release.to_json())
    return Artifact.read(folder)


def _awscli(settings: Settings, say: Callable[[str], None]) -> Callable[[Path, str], None]:
    """Return `aws s3 sync` of an AWS CLI that is installed for this benchmark."""
    home = settings.state.parent / "venvs" / "awscli"
    if not (home / "bin" / "aws").exists():
        say("installing the AWS CLI")
        venv.create(home, with_pip=True, clear=True)
        command = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "awscli==1.46.2"]
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            shutil.rmtree(home)
            raise SetupError(f"the AWS CLI could not be installed: {completed.stderr[-500:]}")
    environment = {**base_environment(), **settings.aws_environment()}

    def sync(folder: Path, bucket: str) -> None:
        command = [str(home / "bin" / "aws"), "s3", "sync", "--quiet", str(folder), f"s3://{bucket}"]
        subprocess.run(command, env=environment, check=True)

    return sync
