"""The pipeline benchmarks: generated projects and DAG files, and calculations with the measured times."""

import json
import os
from pathlib import Path

import psutil
import yaml

from benchmarks.pipelines import interleaved_runs, run_profile
from benchmarks.pipelines.dag_files import write_dag_files
from benchmarks.pipelines.memory import memory, pss_bytes
from benchmarks.pipelines.projects import Size, write_project
from benchmarks.pipelines.scene import RunTimes
from mwaa_pipelines.settings import Pipeline

SIZE = Size("slow", 8, 2, 3)


def test_generated_project_has_layers_tests_and_the_audit_trail(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "slow", SIZE, 5439, "somebody")
    nodes = folder / "models" / "nodes"
    models = {path.name: path for path in nodes.glob("layer_*/area_*/slow_*.sql")}
    assert len(models) == 8
    assert models["slow_7.sql"].parent == nodes / "layer_3" / "area_0"
    assert "ref(" not in models["slow_1.sql"].read_text()
    assert "{{ ref('slow_5') }}" in models["slow_7.sql"].read_text()
    assert "pg_sleep(2)" in models["slow_7.sql"].read_text()
    tested_models = yaml.safe_load((nodes / "nodes.yml").read_text())["models"]
    assert [model["columns"][0]["data_tests"] for model in tested_models] == [["not_null"]] * 8
    assert (folder / "dbt_packages" / "audit_trail" / "models" / "audit_table.sql").is_file()
    (target,) = yaml.safe_load((folder / "profiles.yml").read_text())["slow"]["outputs"].values()
    assert (target["schema"], target["threads"]) == ("bench_slow", 3)


def test_models_without_seconds_do_not_wait(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "tiny", Size("tiny", 1, 0, 4), 5439, "somebody")
    assert "pg_sleep" not in (folder / "models" / "nodes" / "layer_0" / "area_0" / "tiny_0.sql").read_text()


def test_generated_dag_files_contain_the_pipeline_and_the_alternatives(tmp_path: Path) -> None:
    write_dag_files(tmp_path, [(SIZE, ["watcher"])])
    (entry,) = yaml.safe_load((tmp_path / "pipelines.yml").read_text())["pipelines"]
    settings = Pipeline.model_fields
    assert set(entry) <= set(settings)
    (other,) = json.loads((tmp_path / "alternatives.json").read_text())
    assert (other["name"], other["schema"], other["modes"]) == ("slow", entry["target_schema"], ["watcher"])
    assert (tmp_path / "alternatives.py").is_file()


def test_measurements_alternate_and_return_medians() -> None:
    order: list[str] = []
    one = iter([RunTimes(9, 1), RunTimes(1, 2), RunTimes(2, 9)])
    medians = interleaved_runs(
        3, lambda: order.append("one") or next(one), lambda: order.append("other") or RunTimes(5, 4, dbt=len(order))
    )
    assert medians == [RunTimes(2, 2), RunTimes(5, 4, dbt=4)]
    assert order == ["one", "other"] * 3


def test_parts_of_a_run_add_up_to_its_duration() -> None:
    parts = run_profile("run", RunTimes(run=30, models=20, audit=8, first=15, dbt=22))
    assert [part.value for part in parts] == [8, 7, 5, 2, 8]
    assert [part.goal for part in parts] == [None] * 5


def test_memory_is_the_proportional_set_size_of_a_process() -> None:
    assert (
        pss_bytes("5581-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  884 kB\nPss:  385 kB\nPss_Dirty: 8 kB\n") == 394240
    )
    memory_bytes = memory(psutil.Process())
    assert 0 < memory_bytes <= psutil.Process().memory_info().rss * 1.1


def test_ended_process_has_no_memory() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    process = psutil.Process(pid)
    os.waitpid(pid, 0)
    assert memory(process) == 0
