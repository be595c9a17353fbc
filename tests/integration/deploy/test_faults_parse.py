"""After an apply that broke at any request, what MWAA would copy parses, in Airflow's own environment."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.apply import apply
from deploy.build import build
from deploy.errors import DeployError
from local.mwaa.sync import DagsSync
from local.processes import base_environment
from tests.fixtures.checkout import copy_repository
from tests.integration.deploy.test_faults import Fault

# Parses each folder as a DAG processor does, and prints its DAG's documentation, which names the release.
PARSE = """
import json, os, runpy, sys
found = {}
for folder in sys.argv[1:]:
    os.environ["DBT_PROJECT_PATH"] = f"{folder}/dbt"
    sys.path.insert(0, folder)
    content = runpy.run_path(f"{folder}/pipelines.py")
    found[folder] = [content["dag"].doc_md, len(content["dag"].tasks)]
    sys.path.remove(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "dbt_pipeline"]:
        del sys.modules[name]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_mwaa_copies_parses_after_a_fault_at_every_request(bucket, tmp_path, airflow_python):
    source = copy_repository(tmp_path / "source")
    _shrink(source / "dbt_project")
    old = build(tmp_path / "old", repository=source)
    (source / "dbt_project/models/one_more.sql").write_text("select 1 as id\n")
    settings = source / "dags/dbt_pipeline/settings.py"
    settings.write_text(settings.read_text() + "\n# Changed by the test.\n")
    pipelines = source / "dags/pipelines.py"
    pipelines.write_text(pipelines.read_text() + "\n# Changed by the test.\n")
    new = build(tmp_path / "new", repository=source)
    apply(old, bucket)
    keys = bucket.sizes("")
    start = {key: (bucket.describe(key) or {}) | {"body": bucket.read(key)} for key in keys}
    fault = Fault(bucket.s3, "after")
    apply(new, bucket)
    requests = fault.count
    folders: list[Path] = []
    # Like MWAA, it copies what changed.
    sync = DagsSync(bucket.s3, bucket.name, tmp_path / "dags")
    for at in range(1, requests + 1):
        fault.arm(0)
        bucket.delete(set(bucket.sizes("")) - set(start))
        for key, was in start.items():
            if (bucket.describe(key) or {}).get("sha256") != was["sha256"]:
                bucket.put(key, was["body"], was["sha256"], was["metadata"])
        fault.arm(at)
        with contextlib.suppress(DeployError):
            apply(new, bucket)
        assert fault.hit
        fault.arm(0)
        # The same tree twice need not be parsed twice.
        if sync.once() or not folders:
            folders.append(tmp_path / f"dags-{at}")
            shutil.copytree(tmp_path / "dags", folders[-1])
    environment = {**base_environment(), "AIRFLOW_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False", "DBT_VENV_PATH": str(tmp_path / "dbt_venv")}
    done = subprocess.run(
        [airflow_python, "-c", PARSE, *folders], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    shown = {(doc.split("`")[3], tasks) for doc, tasks in found.values()}
    (old_release,), (new_release,) = old.releases, new.releases
    assert {release for release, _ in shown} == {old_release.release_id, new_release.release_id}
    # The new model is one task more, and no folder showed anything in between.
    (before,), (after,) = (
        {tasks for at, tasks in shown if at == each.release_id} for each in (old_release, new_release)
    )
    assert after == before + 1
    print(f"{requests} requests, {len(folders)} different folders parsed")


def _shrink(project: Path) -> None:
    """Leave a project of three models, as each file of it is a request, and each request an apply."""
    profiles = (project / "profiles.yml").read_text()
    shutil.rmtree(project)
    files = {
        "dbt_project.yml": "name: flights\nversion: '1.0'\nprofile: flights\n",
        "profiles.yml": profiles,
        "models/audit_table.sql": "{{ config(tags=['audit']) }} select 1 as id\n",
        "models/first.sql": "select 1 as id\n",
        "models/second.sql": "select id from {{ ref('first') }}\n",
    }
    for path, text in files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
