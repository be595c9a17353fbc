"""`doctor` is green after the documented steps, and each of its checks turns red with the fix."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ENVIRONMENT
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.doctor import CHECKS
from mwaa_release.doctor.check import Account, Outcome, run_checks
from mwaa_release.pipelines import find_pipeline
from mwaa_release.redshift import apply_grants
from mwaa_release.release import LAMBDA_ZIP, RELEASE_FILE, Artifact, Release, list_files
from redshift_local.pytest_plugin import Warehouse

REPOSITORY = Path(__file__).parents[4]
PASSWORD = "Doctor 1"
SUBJECT = "repo:acme/data"
RELEASE = "20260101T000000Z-abcdef1"
MANIFEST = {
    "metadata": {"project_name": "flights"},
    "sources": {"source.flights.landing.planes": {"schema": "landing", "identifier": "planes"}},
    "nodes": {},
}
# GitHub's CLI, which answers as GitHub does for a repository without ids.
GH = """#!/bin/sh
case "$*" in
    *actions/oidc/customization/sub) echo "${GH_ANSWER}" ;;
    *) exit 1 ;;
esac
"""


@dataclass
class Stage:
    """An account after the documented steps."""

    aws: Aws
    warehouse: Warehouse
    artifact: Artifact

    def client(self, service: str) -> Any:
        return seed.client(self.aws.settings, service)

    def account(self, **changes: Any) -> Account:
        account = Account(
            self.client,
            ENVIRONMENT,
            find_pipeline(),
            repository=roles.GITHUB_REPOSITORY,
            release_role=seed.RELEASE_ROLE_ARN.rpartition("/")[2],
        )
        return replace(account, **changes)

    def outcomes(self, *names: str, **changes: Any) -> dict[str, Outcome]:
        """Run the named checks and those that they need; without names all."""
        needed = set(names or (check.name for check in CHECKS))
        for check in reversed(CHECKS):
            if check.name in needed:
                needed |= set(check.needs)
        checks = [check for check in CHECKS if check.name in needed]
        return {outcome.check.name: outcome for outcome in run_checks(checks, self.account(**changes))}

    def query(self, *statements: str, user: str | None = None) -> None:
        password = PASSWORD if user else None
        with contextlib.closing(self.warehouse.connect(user, password)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)


def make_release(folder: Path) -> Artifact:
    release_folder = folder / "dags/dbt/flights" / RELEASE
    files = {
        release_folder / "manifest.json": json.dumps(MANIFEST),
        folder / "dags/pipelines.py": "",
        folder / "requirements.txt": "",
        folder / "startup.sh": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    release = Release(RELEASE, "flights", "abcdef1" * 5, "2026-01-01", "1.11.16", list_files(release_folder))
    (release_folder / RELEASE_FILE).write_bytes(release.to_json())
    (folder / LAMBDA_ZIP).write_bytes(seed._zipped_handler())
    return Artifact.read(folder)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, redshift: Warehouse) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text(GH)
    (folder / "bin" / "gh").chmod(0o755)
    answer = json.dumps({"use_default": True, "use_immutable_subject": False, "sub_claim_prefix": SUBJECT})
    with running_aws(folder) as aws, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("GH_ANSWER", answer)
        seed.seed(aws.settings, SimpleNamespace(dbt_user=PASSWORD), redshift.host, redshift.port)
        stage = Stage(aws, redshift, make_release(folder / "artifact"))
        stage.query("create schema landing", "create table landing.planes (tailnum varchar(10))")
        with contextlib.closing(redshift.connect()) as connection:
            apply_grants(connection, "dbt_user", PASSWORD)
        bucket = Bucket(seed.DAGS_BUCKET, stage.client("s3"))
        functions, mwaa = stage.client("lambda"), stage.client("mwaa")
        apply(stage.artifact, bucket, lambda *_: None, functions, [seed.FUNCTION], mwaa, ENVIRONMENT)
        yield stage


def doctor(stage: Stage, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    superuser = {
        "REDSHIFT_HOST": stage.warehouse.host,
        "REDSHIFT_PORT": str(stage.warehouse.port),
        "REDSHIFT_USER": stage.warehouse.user,
        "REDSHIFT_PASSWORD": stage.warehouse.password,
        "REDSHIFT_SSLMODE": "disable",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DEPLOY_"))}
    return subprocess.run(
        [sys.executable, "-m", "mwaa_release", "doctor", *arguments],
        cwd=REPOSITORY,
        env=environment | stage.aws.environment() | superuser | {"DEPLOY_ENVIRONMENT": ENVIRONMENT} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_output_is_one_line_for_each_check_and_a_summary(stage: Stage) -> None:
    done = doctor(stage, "--repository", roles.GITHUB_REPOSITORY, "--release-role", seed.RELEASE_ROLE_ARN)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, _, summary, hint = done.stdout.splitlines()
    assert [line[2:22].rstrip() for line in lines] == [check.name for check in CHECKS]
    assert {line[:2] for line in lines} == {"✓ "}
    assert summary.startswith(f"{len(CHECKS)} ok, 0 failed, 0 not checked in ")
    assert hint.endswith("add --explain")


def test_all_checks_succeed_after_the_documented_steps(stage: Stage) -> None:
    outcomes = stage.outcomes()
    assert [(name, outcome.text) for name, outcome in outcomes.items() if outcome.status != "ok"] == []
