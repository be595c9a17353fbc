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
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(completed.stdout.splitlines()[-1])


def test_parsing_has_no_side_effects(parse: dict[str, list[str]]) -> None:
    assert parse["events"] == []


def test_parsing_reads_only_metadata_and_seeds_of_the_release(parse: dict[str, list[str]]) -> None:
    dags_folder_reads = [path for path in parse["reads"] if path.startswith(str(DAGS))]
    assert [path for path in dags_folder_reads if path.endswith("pipelines.yml")]
    release = str(DAGS / "dbt" / "flights")
    release_files = {Path(path).name for path in dags_folder_reads if path.startswith(release)}
    # Cosmos takes a checksum of each seed.
    seeds = {path.name for path in (DAGS / "dbt" / "flights").glob("*/seeds/*.csv")}
    selections = {"audit.json", "flights_pipeline.json"}
    assert release_files == {"CURRENT", "release.json", "dbt_project.yml"} | selections | seeds


def test_side_effects_of_a_dag_file_are_detected(tmp_path: Path) -> None:
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
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    events = " ".join(json.loads(completed.stdout.splitlines()[-1])["events"])
    for kind in ("subprocess.Popen", "socket.__new__", "open for writing", "tempfile.mkdtemp"):
        assert kind in events


def test_run_parameters_belong_to_the_dag_and_not_to_tasks(dag: Any) -> None:
    assert set(dag.params) == {"start", "end", "full_refresh", "select", "files"}
    assert [task.task_id for task in dag.tasks if task.params] == []


def test_serialized_dag_contains_no_credentials(dag: Any) -> None:
    text = json.dumps(serialized(dag))
    assert "flights_pipeline" in text
    for word in ("password", "dbt_user", "login", "COSMOS_CONN"):
        assert word not in text, word
