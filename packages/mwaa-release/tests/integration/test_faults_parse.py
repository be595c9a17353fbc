"""If `apply` fails at any request, the folder that MWAA copies still parses and runs in Airflow's environment.

The test parses each different folder. A run depends only on the DAG files and the release that they select, so the
test runs each pair of these once, with `airflow dags test`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from test_faults import Fault

from mwaa_local.mwaa.sync import DagsSync
from mwaa_local.processes import base_environment
from mwaa_local.testing.checkout import copy_repository
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.build import PIPELINES_PACKAGE, build, pipelines_package
from mwaa_release.errors import DeployError
from redshift_local.pytest_plugin import Warehouse

# Parses each folder as a DAG processor does and prints the DAG's documentation, which names the release.
PARSE = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag
results = {}
for folder in sys.argv[1:]:
    os.environ["DBT_PROJECT_PATH"] = f"{folder}/dbt"
    sys.path.insert(0, folder)
    (dag,) = DagBag(f"{folder}/pipelines.py").dags.values()
    results[folder] = [dag.doc_md, len(dag.tasks)]
    sys.path.remove(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "mwaa_pipelines"]:
        del sys.modules[name]
print(json.dumps(results))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dags_parse_and_run_after_a_fault_at_every_request(
    bucket, tmp_path, monkeypatch, airflow_python, start_redshift
):
    source = copy_repository(tmp_path / "source")
    _shrink(source / "dbt_project")
    old = build(tmp_path / "old", repository=source)
    (source / "dbt_project/models/one_more.sql").write_text("select 1 as id\n")
    package = shutil.copytree(pipelines_package(), tmp_path / PIPELINES_PACKAGE)
    with (package / "settings.py").open("a") as settings:
        settings.write("\n# Changed by the test.\n")
    monkeypatch.setattr("mwaa_release.build.pipelines_package", lambda: package)
    pipelines = source / "dags/pipelines.py"
    pipelines.write_text(pipelines.read_text() + "\n# Changed by the test.\n")
    new = build(tmp_path / "new", repository=source)
    apply(old, bucket)
    keys = bucket.sizes("")
    old_objects = {key: (bucket.describe(key) or {}) | {"body": bucket.read(key)} for key in keys}
    old_etags = _etags(bucket)
    fault = Fault(bucket.s3, "after")
    apply(new, bucket)
    requests = fault.count
    folders: list[Path] = []
    # Copies only changed files, like MWAA.
    sync = DagsSync(bucket.s3, bucket.name, tmp_path / "dags")
    for at in range(1, requests + 1):
        fault.arm(0)
        etags = _etags(bucket)
        bucket.delete(set(etags) - set(old_objects))
        for key, old_file in old_objects.items():
            if etags.get(key) != old_etags[key]:
                bucket.put(key, old_file["body"], old_file["sha256"], old_file["metadata"])
        fault.arm(at)
        with contextlib.suppress(DeployError):
            apply(new, bucket)
        assert fault.hit
        fault.arm(0)
        # Parse each different folder only once.
        if sync.once() or not folders:
            folders.append(tmp_path / f"dags-{at}")
            shutil.copytree(tmp_path / "dags", folders[-1])
    environment = {**base_environment(), "AIRFLOW_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["TMPDIR"] = str(tmp_path)
    environment |= {"AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False", "DBT_VENV_PATH": str(tmp_path / "dbt_venv")}
    completed = subprocess.run(
        [airflow_python, "-c", PARSE, *folders], env=environment, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    parsed_dags = json.loads(completed.stdout.splitlines()[-1])
    output = {(doc.split("`")[3], tasks) for doc, tasks in parsed_dags.values()}
    (old_release,), (new_release,) = old.releases, new.releases
    assert {release for release, _ in output} == {old_release.release_id, new_release.release_id}
    # The new model adds one task, and no folder has a mix of both releases.
    (before,), (after,) = (
        {tasks for at, tasks in output if at == entry.release_id} for entry in (old_release, new_release)
    )
    assert after == before + 1
    different = {_run_inputs(Path(folder), doc.split("`")[3]): Path(folder) for folder, (doc, _) in parsed_dags.items()}
    # At least: all old, new modules with old DAG files, new DAG files with the old release, and all new.
    assert len(different) >= 4
    airflow = Airflow(airflow_python, tmp_path / "airflow", start_redshift)
    for (_, release), folder in different.items():
        assert airflow.run(folder) == {
            "audit_table",
            "first",
            *(["one_more"] if new_release.release_id in release else []),
        }
    print(f"{requests} requests, {len(folders)} different folders parsed, {len(different)} of them run")


def _etags(bucket: Bucket) -> dict[str, str]:
    """Return the ETag of each object, which is a digest of its content."""
    pages = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}


def _run_inputs(folder: Path, release_id: str) -> tuple[str, str]:
    """Return a digest of the folder's DAG files, and the name and digest of the release that they select."""
    digests = []
    release = folder / "dbt" / "flights" / release_id
    code = [path for path in folder.rglob("*") if not path.is_relative_to(folder / "dbt")]
    for root, paths in ((folder, code), (release, release.rglob("*"))):
        parsed_dags = sorted((str(path.relative_to(root)), path.read_bytes()) for path in paths if path.is_file())
        digests.append(f"{root.name} {hashlib.sha256(repr(parsed_dags).encode()).hexdigest()}")
    return digests[0].split()[1], digests[1]


class Airflow:
    """Runs the pipeline of a folder, in one process, against a warehouse: `airflow dags test`."""

    def __init__(self, python: Path, home: Path, start_redshift: Callable[..., Warehouse]) -> None:
        self._airflow, self._home, self._warehouse = python.with_name("airflow"), home, start_redshift()
        (home / "dbt_venv" / "bin").mkdir(parents=True)
        (home / "dbt_venv" / "bin" / "dbt").symlink_to(Path(sys.executable).with_name("dbt"))
        where = self._warehouse
        connection = {
            "conn_type": "redshift",
            "host": where.host,
            "port": where.port,
            "schema": where.database,
            "login": where.user,
            "password": where.password,
            "extra": {"sslmode": "disable"},
        }
        self._environment = {
            **base_environment(),
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            # Cosmos writes profiles to the folder cosmos of the temporary files, which can be another user's.
            "TMPDIR": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
            "AIRFLOW_CONN_FLIGHTS_REDSHIFT": json.dumps(connection),
            "DBT_VENV_PATH": str(home / "dbt_venv"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._call("db", "migrate")

    def run(self, folder: Path) -> set[str]:
        """Run the pipeline once and return the tables and views that it built."""
        dags = self._home / "dags"
        shutil.rmtree(dags, ignore_errors=True)
        shutil.copytree(folder, dags)
        # One process has no triggerer for the sensors. The connection has the login, so no secret is needed.
        pipelines = dags / "pipelines.yml"
        content = yaml.safe_load(pipelines.read_text())
        content["defaults"] |= {"execution_mode": "local"}
        for entry in (content["defaults"], *content["pipelines"]):
            for setting in ("secret_name", "load"):
                entry.pop(setting, None)
        pipelines.write_text(yaml.safe_dump(content))
        with contextlib.closing(self._warehouse.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("drop schema if exists analytics cascade")
            self._call("dags", "test", "flights_pipeline")
            cursor.execute("select table_name from information_schema.tables where table_schema = 'analytics'")
            return {name for (name,) in cursor.fetchall()}

    def _call(self, *arguments: str) -> None:
        environment = self._environment | {"DBT_PROJECT_PATH": str(self._home / "dags" / "dbt")}
        completed = subprocess.run(
            [self._airflow, *arguments], env=environment, cwd=self._home, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stdout[-20000:] + completed.stderr[-5000:]


def _shrink(project: Path) -> None:
    """Reduce the project to two models, because each file is a request and the test applies once per request."""
    profiles = (project / "profiles.yml").read_text()
    shutil.rmtree(project)
    files = {
        "dbt_project.yml": "name: flights\nversion: '1.0'\nprofile: flights\n",
        "profiles.yml": profiles,
        "models/audit_table.sql": "{{ config(tags=['audit']) }} select 1 as id\n",
        "models/first.sql": "select 1 as id\n",
    }
    for path, text in files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
