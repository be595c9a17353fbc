"""Parsing a DAG file reads its settings, the release and the manifest, and does nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import serialized

DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


@pytest.fixture(scope="module")
def parse() -> dict[str, list[str]]:
    command = [sys.executable, Path(__file__).with_name("parse_audited.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_no_process_no_connection_no_write(parse: dict[str, list[str]]) -> None:
    assert parse["events"] == []


def test_only_the_dags_folder_is_read(parse: dict[str, list[str]]) -> None:
    ours = [path for path in parse["reads"] if path.startswith(str(DAGS))]
    assert [path for path in ours if path.endswith("manifest.json")]
    assert [path for path in ours if path.endswith("pipelines.yml")]
    release = str(DAGS / "dbt" / "flights")
    of_release = {Path(path).name for path in ours if path.startswith(release)}
    # Cosmos takes a checksum of each seed.
    seeds = {path.name for path in (DAGS / "dbt" / "flights").glob("*/seeds/*.csv")}
    assert of_release == {"CURRENT", "release.json", "manifest.json", "dbt_project.yml"} | seeds


def test_the_audit_sees_what_it_must_not_miss(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    for name in ("mwaa_pipelines", "dbt"):
        (dags / name).symlink_to(DAGS / name)
    (dags / "pipelines.py").write_text(
        "import pathlib, socket, subprocess, tempfile\n"
        "subprocess.run(['true'])\n"
        "socket.socket()\n"
        f"pathlib.Path({str(tmp_path / 'written')!r}).write_text('')\n"
        "tempfile.mkdtemp()\n"
    )
    command = [sys.executable, Path(__file__).with_name("parse_audited.py")]
    environment = {**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    events = " ".join(json.loads(done.stdout.splitlines()[-1])["events"])
    for kind in ("subprocess.Popen", "socket.__new__", "open for writing", "tempfile.mkdtemp"):
        assert kind in events


def test_the_parameters_of_a_run_are_the_dags_and_copied_for_no_task(dag: Any) -> None:
    assert set(dag.params) == {"start", "end", "full_refresh", "select"}
    assert [task.task_id for task in dag.tasks if task.params] == []


def test_the_serialized_dag_holds_names_and_no_login(dag: Any) -> None:
    text = json.dumps(serialized(dag))
    assert "flights_pipeline" in text
    for word in ("password", "dbt_user", "login", "COSMOS_CONN"):
        assert word not in text, word
