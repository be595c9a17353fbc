"""A bucket for each test in the AWS stand-in, and artifacts that are built without dbt."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_release.bucket import Bucket
from mwaa_release.release import RELEASE_FILE, Artifact, Release, list_files

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def deploy(aws, tmp_path) -> Callable[..., tuple[int, str]]:
    """A function that runs `python -m mwaa_release` and returns the exit code and output."""

    def run(*arguments: str, input: str = "", **environment: str) -> tuple[int, str]:  # noqa: A002 - as subprocess
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REDSHIFT_"))}
        completed = subprocess.run(
            [sys.executable, "-m", "mwaa_release", *arguments],
            cwd=REPOSITORY,
            env={**clean, **aws.environment(), "LOCAL_DIR": str(tmp_path), "COLUMNS": "200", **environment},
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in completed.stderr, completed.stderr
        return completed.returncode, completed.stdout + completed.stderr

    return run


@pytest.fixture
def bucket(s3) -> Bucket:
    name = f"mwaa-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return Bucket(name, s3)


@pytest.fixture
def make_artifact(tmp_path) -> Callable[..., Artifact]:
    """A function that creates an artifact like `build`, from project files and other files."""

    def make(second: int, project: dict[str, str], files: dict[str, str], name: str = "flights") -> Artifact:
        release_id = f"20260101T0000{second:02}Z-abcdef1"
        folder = tmp_path / f"artifact-{secrets.token_hex(4)}"
        release_folder = folder / "dags/dbt" / name / release_id
        project = {path: text.replace(MANIFEST, MANIFEST.replace("flights", name)) for path, text in project.items()}
        for root, content in ((release_folder, project), (folder, files)):
            for path, text in content.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
        release = Release(release_id, name, "abcdef1" * 5, "2026-01-01", "1.11.16", list_files(release_folder))
        (release_folder / RELEASE_FILE).write_bytes(release.to_json())
        return Artifact.read(folder)

    return make


@pytest.fixture
def toy_repository(tmp_path) -> Path:
    """A small repository outside of git, with all parts of a release."""
    root = tmp_path / "repository"
    files = {
        "dbt_project/dbt_project.yml": "name: toy\nversion: '1.0'\nprofile: toy\n",
        "dbt_project/profiles.yml": "toy:\n  target: prod\n  outputs:\n    prod:\n      type: redshift\n"
        "      host: nowhere.invalid\n      port: 5439\n      user: nobody\n      password: none\n"
        "      dbname: dev\n      schema: \"{{ env_var('REDSHIFT_SCHEMA', 'analytics') }}\"\n",
        "dbt_project/models/first.sql": "select 1 as id\n",
        "dbt_project/models/second.sql": "select id from {{ ref('first') }} join {{ ref('codes') }} using (id)\n",
        "dbt_project/models/first.yml": "models:\n  - name: first\n    columns:\n      - name: id\n"
        "        data_tests: [not_null]\n",
        "dbt_project/seeds/codes.csv": "id\n1\n",
        "dbt_project/tests/no_rows.sql": "select 1 from {{ ref('first') }} where id is null\n",
        "dbt_project/target/old.json": "{}",
        "dbt_project/logs/dbt.log": "x",
        "dags/pipelines.py": "print('DAG')\n",
        "dags/.airflowignore": "dbt/\n",
        "dags/parts/__init__.py": "",
        "dags/parts/__pycache__/x.pyc": "x",
        "dags/dbt/left/over.txt": "x",
        "lambda/handler.py": "def lambda_handler(event, context):\n    return {}\n",
        "requirements.txt": "astronomer-cosmos==1.15.1\n",
        "startup.sh": "#!/bin/sh\n",
        "local/never.txt": "x",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root
