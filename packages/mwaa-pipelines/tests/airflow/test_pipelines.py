"""pipelines.yml in Airflow: each valid entry becomes a DAG, all invalid entries become one import error."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.standard.operators.empty import EmptyOperator
from conftest import DagBag, entries, new_release, serialized, write

from mwaa_pipelines import folders, settings
from mwaa_pipelines.config_file import read_pipelines
from mwaa_pipelines.documentation import documentation
from mwaa_pipelines.folders import Folder
from mwaa_pipelines.release import Release
from mwaa_pipelines.selection import Selection

DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def bag(tmp_path: Path, text: str) -> Any:
    for name in ("pipelines.py", "pipelines_errors.py", ".airflowignore"):
        (tmp_path / name).write_bytes((DAGS / name).read_bytes())
    write(tmp_path, text)
    return DagBag(str(tmp_path))


def test_invalid_entries_are_one_import_error_and_valid_entries_load(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one", "two", "three", two="threads: many", three="thread: 1"))
    assert list(dag_bag.dags) == ["one"]
    ((file, error),) = dag_bag.import_errors.items()
    assert file.endswith("pipelines_errors.py")
    last = error[error.index("PipelineError: ") :].splitlines()
    assert last[0].endswith(
        "pipelines.yml:13: pipeline two: threads: Input should be a valid integer, unable to parse "
        "string as an integer (value: 'many')"
    )
    assert "pipeline three: thread: unknown setting" in last[1]


# Airflow's limit is 100 characters. Creating the DAG fails before it has tasks.
TOO_LONG_A_TAG = f"tags: [{'x' * 101}]"


def test_entry_whose_dag_cannot_be_created_affects_only_itself(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one", "two", "three", two=TOO_LONG_A_TAG))
    assert sorted(dag_bag.dags) == ["one", "three"]
    ((file, error),) = dag_bag.import_errors.items()
    assert file.endswith("pipelines_errors.py")
    assert error.strip().endswith(
        "pipeline two: its DAG cannot be created: ValueError: tag cannot be longer than 100 characters"
    )


@pytest.mark.parametrize("failing", ["one", "three"])
def test_unfinished_dag_is_not_registered(tmp_path: Path, failing: str) -> None:
    """An exception in the team's own tasks, in the first or the last entry, when the DAG has half of its tasks."""
    bag(tmp_path, entries("one", "two", "three"))
    path = tmp_path / "pipelines.py"
    condition = f'        if pipeline.settings.dag_name == "{failing}":\n            raise OSError("no disk")\n'
    path.write_text(path.read_text().replace("        dbt_check = ", f"{condition}        dbt_check = "))
    dag_bag = DagBag(str(tmp_path))
    assert sorted(dag_bag.dags) == sorted({"one", "two", "three"} - {failing})
    assert all("pipeline_succeeded" in dag.task_dict for dag in dag_bag.dags.values())
    (error,) = dag_bag.import_errors.values()
    line = path.read_text()[: path.read_text().index("raise OSError")].count("\n") + 1
    assert error.strip().endswith(f"pipeline {failing}: its DAG cannot be created: {path}:{line}: OSError: no disk")


def test_error_of_a_library_is_reported_with_the_line_of_the_dag_file(tmp_path: Path) -> None:
    bag(tmp_path, entries("one"))
    path = tmp_path / "pipelines.py"
    text = path.read_text().replace("        dbt_check = ", '        EmptyOperator(task_id="?")\n        dbt_check = ')
    path.write_text(text)
    (error,) = DagBag(str(tmp_path)).import_errors.values()
    line = text[: text.index('"?"')].count("\n") + 1
    assert f"pipeline one: its DAG cannot be created: {path}:{line}: " in error


def test_problems_of_settings_and_of_dags_are_reported_together(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one", "two", "three", "three", two="threads: many", one=TOO_LONG_A_TAG))
    assert list(dag_bag.dags) == ["three"]
    (error,) = dag_bag.import_errors.values()
    problems = [line.split("pipeline ")[1].split(":")[0] for line in error.splitlines() if "pipeline t" in line]
    assert problems == ["two", "three"]
    assert "pipeline one: its DAG cannot be created" in error


def test_file_without_pipelines_is_one_import_error(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, "pipelines: []")
    assert dag_bag.dags == {}
    ((file, error),) = dag_bag.import_errors.items()
    assert file.endswith("pipelines.py")
    assert "must contain a list under the key 'pipelines'" in error


def test_valid_entries_cause_no_import_error(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one", "two", two="schedule: [one]"))
    assert dag_bag.import_errors == {}
    assert sorted(dag_bag.dags) == ["one", "two"]


def test_pipeline_settings_are_applied_to_the_dag(tmp_path: Path) -> None:
    lines = """timezone: America/New_York
    schedule: "30 6 * * *"
    start_date: 2026-03-01
    catchup: true
    vars: {look_back_days: 7}
    env: {LAYER: gold, DBT_RELEASE_ID: theirs}
    task_timeout_minutes: 90"""
    dag = bag(tmp_path, entries("one", one=lines)).dags["one"]
    data = serialized(dag)["dag"]
    assert data["timezone"] == "America/New_York"
    assert data["timetable"]["__var"]["expression"] == "30 6 * * *"
    assert data["timetable"]["__var"]["timezone"] == "America/New_York"
    assert dag.start_date.isoformat() == "2026-03-01T05:00:00+00:00"
    assert dag.catchup is True
    producer = dag.get_task("transform_data.dbt_producer_watcher")
    assert producer.vars == {"look_back_days": 7}
    assert producer.env["LAYER"] == "gold"
    assert producer.env["DBT_RELEASE_ID"] != "theirs"
    assert producer.execution_timeout.total_seconds() == 5400


def _transform_tasks(dag: Any) -> set[str]:
    return {task.removeprefix("transform_data.") for task in dag.task_ids if task.startswith("transform_data.")}


def test_dag_shows_and_builds_the_nodes_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not the arguments of the entry: a rollback also restores the selection.
    arguments = {"select": ["+stg_flights"], "exclude": ["tag:audit", "x"], "nodes": ["model.flights.stg_flights"]}
    new_release(tmp_path, monkeypatch, one=arguments)
    dag = bag(tmp_path, entries("one", one="select: [something_else]")).dags["one"]
    assert _transform_tasks(dag) == {"stg_flights_run", "dbt_producer_watcher", "dbt_producer_watcher_done"}
    producer = dag.get_task("transform_data.dbt_producer_watcher")
    assert (producer.select, producer.exclude, producer.selector) == ("+stg_flights", "tag:audit x", None)


def test_selector_of_the_project_reaches_dbt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_release(tmp_path, monkeypatch, one={"selector": "nightly"})
    producer = bag(tmp_path, entries("one")).dags["one"].get_task("transform_data.dbt_producer_watcher")
    assert (producer.select, producer.exclude, producer.selector) == (None, None, "nightly")


def test_pipeline_without_selectors_needs_no_new_release(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one", "flights_pipeline"))
    assert dag_bag.import_errors == {}
    tasks = [_transform_tasks(dag) for dag in dag_bag.dags.values()]
    assert tasks[0] == tasks[1]


@pytest.mark.parametrize("setting", ["select: [departures]", "exclude: [departures]", "selector: nightly"])
def test_selectors_that_the_release_lacks_are_an_import_error(tmp_path: Path, setting: str) -> None:
    dag_bag = bag(tmp_path, entries("one", "two", two=setting))
    assert list(dag_bag.dags) == ["one"]
    (error,) = dag_bag.import_errors.values()
    assert "pipeline two: the release " in error
    assert "does not contain the nodes of this pipeline" in error


def test_local_tasks_leave_out_the_same_tests_as_the_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_prefix = "test.flights.unique_departures"
    new_release(
        tmp_path, monkeypatch, one={"nodes": ["model.flights.departures", test_prefix], "exclude": ["tag:audit", "x"]}
    )
    dag = bag(tmp_path, entries("one", one="execution_mode: local")).dags["one"]
    assert _transform_tasks(dag) == {"departures.run", "departures.test"}
    test = dag.get_task("transform_data.departures.test")
    assert all(part.startswith("fqn:flights.marts.unique_departures") for part in test.select.split())
    assert test.exclude is None
    dag = bag(tmp_path, entries("one", one="execution_mode: local\n    test_behavior: build")).dags["one"]
    build = dag.get_task("transform_data.departures_model_build")
    assert build.exclude == "tag:audit x"


ENVIRONMENTS = """
    schedule: '@daily'
    environments:
      dev: {schedule: null, target_schema: one_dev, secret_name: dev/dbt_user, select: [departures]}
      prod: {secret_name: prod/dbt_user}"""


@pytest.mark.parametrize(
    ("environment", "timetable", "schema", "tasks"),
    [("dev", "NullTimetable", "one_dev", {"departures_run"}), ("prod", "Cron", "analytics", {"carriers_run"})],
)
def test_one_release_serves_environments_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, timetable: str, schema: str, tasks: set[str]
) -> None:
    selections = {"one@dev": {"nodes": ["model.flights.departures"]}, "one@prod": {"nodes": ["model.flights.carriers"]}}
    new_release(tmp_path, monkeypatch, **selections)
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", environment)
    dag = bag(tmp_path, entries("one", one=ENVIRONMENTS.strip())).dags["one"]
    assert timetable in json.dumps(serialized(dag)["dag"]["timetable"])
    assert {task for task in _transform_tasks(dag) if "producer" not in task} == tasks
    mapping = dag.get_task("transform_data.dbt_producer_watcher").profile_config.profile_mapping
    assert (mapping.profile_args["schema"], mapping.secret_name) == (schema, f"{environment}/dbt_user")
    assert f", environment `{environment}`" in dag.doc_md


def test_documentation_links_to_runbook_commit_and_own_pages(tmp_path: Path) -> None:
    links = "links: {Audit report: https://reports.example/audit}"
    (pipeline,) = read_pipelines(write(tmp_path, entries("one", one=links))).pipelines
    release = Release("20260101T000000Z-0123abc", tmp_path, "0123abcd", "https://github.com/acme/data")
    selection = Selection(tmp_path, (), (), None, ())
    assert documentation(pipeline, release, selection).splitlines()[-3:] == [
        "- [Audit report](https://reports.example/audit)",
        "- [Runbook for a failed run](https://github.com/acme/data/blob/0123abcd/docs/runbooks/pipeline-failed.md)",
        "- [Commit of this release](https://github.com/acme/data/commit/0123abcd)",
    ]
    without_links = pipeline.model_copy(update={"links": {}}), replace(release, repository="")
    assert "](" not in documentation(*without_links, selection)
    assert "folder" not in documentation(pipeline, release, selection)
    large = replace(selection, folders=(Folder("models", (), frozenset(), frozenset()),))
    assert "Each task of its nodes is a folder" in documentation(pipeline, release, large)


def test_unknown_environment_is_an_import_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "stage")
    dag_bag = bag(tmp_path, entries("one", "two", one=ENVIRONMENTS.strip()))
    assert list(dag_bag.dags) == ["two"]
    (error,) = dag_bag.import_errors.values()
    assert (
        "option dbt.environment (PipelinesEnvironment of infra/environment.yml) is 'stage', which is not one" in error
    )


def test_schedule_can_be_a_list_of_assets(tmp_path: Path) -> None:
    dag = bag(tmp_path, entries("one", "two", two="schedule: [one, 'external:elsewhere']")).dags["two"]
    text = json.dumps(serialized(dag)["dag"]["timetable"])
    assert '"name": "one"' in text
    assert '"name": "elsewhere"' in text


# A test of several models has its own task, which runs after all of them.
MULTI_MODEL_TEST = "departures_arrive_when_local_clocks_say_test"


@pytest.mark.parametrize(
    ("lines", "tasks"),
    [
        ("execution_mode: local", {"departures.run", "departures.test", MULTI_MODEL_TEST}),
        ("execution_mode: local\n    test_behavior: build", {"departures_model_build", MULTI_MODEL_TEST}),
        ("execution_mode: local\n    test_behavior: none", {"departures_run"}),
        ("test_behavior: none", {"departures_run", "dbt_producer_watcher", "dbt_producer_watcher_done"}),
    ],
)
def test_execution_mode_and_test_behavior_decide_the_tasks(tmp_path: Path, lines: str, tasks: set[str]) -> None:
    dag_bag = bag(tmp_path, entries("one", one=lines))
    assert dag_bag.import_errors == {}
    dag = dag_bag.dags["one"]
    names = {task_id.removeprefix("transform_data.") for task_id in dag.task_ids}
    assert {name for name in names if name.startswith(("departures", "dbt_producer"))} == tasks
    local = "local" in lines
    dbt = [task for task in dag.tasks if hasattr(task, "project_dir")]
    assert [task for task in dbt if hasattr(task, "producer_task_id")] == ([] if local else dbt[2:])
    if local:
        from mwaa_pipelines.parameters import prepare

        assert {task._pre_execute_hook for task in dbt} == {prepare}
    if MULTI_MODEL_TEST in tasks:
        upstream = dag.get_task(f"transform_data.{MULTI_MODEL_TEST}").upstream_task_ids
        models = {re.split(r"[._]", name.removeprefix("transform_data."))[0] for name in upstream}
        assert models == {"airports", "departures", "stg"}


AREA = {
    "unique_id": "function.flights.area",
    "resource_type": "function",
    "package_name": "flights",
    "original_file_path": "functions/area.sql",
    "fqn": ["flights", "area"],
    "tags": [],
    "config": {"materialized": "function", "meta": {"owner": "jane"}},
    "depends_on": {"nodes": []},
}


@pytest.mark.parametrize("lines", ["execution_mode: local", "execution_mode: watcher", "test_behavior: none"])
def test_functions_are_built_before_the_models_that_call_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    model = {**AREA, "unique_id": "model.flights.rooms", "resource_type": "model", "fqn": ["flights", "rooms"]}
    model["depends_on"] = {"nodes": [AREA["unique_id"]]}
    added = {AREA["unique_id"]: AREA, "model.flights.rooms": model}
    new_release(tmp_path, monkeypatch, one={"nodes": [], "added": added})
    dag = bag(tmp_path, entries("one", one=lines)).dags["one"]
    task = dag.get_task("transform_data.area_function")
    assert task.base_cmd == ["build"]
    assert task.select == "fqn:flights.area,package:flights,resource_type:function,file:area.sql"
    assert task.owner == "jane"
    assert task.downstream_task_ids >= {"transform_data.rooms_run"}
    producer = dag.task_dict.get("transform_data.dbt_producer_watcher")
    # Cosmos leaves all types but three out of a build without tests.
    types = producer.dbt_cmd_flags if producer else []
    assert ("function" in types) == ("none" in lines)


@pytest.mark.parametrize("is_large", [True, False])
def test_models_of_two_packages_with_the_same_name_share_the_tasks_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    fields = {"resource_type": "model", "original_file_path": "models/rooms.sql"}
    added = {
        f"model.{package}.rooms": {
            **AREA,
            **fields,
            "unique_id": f"model.{package}.rooms",
            "package_name": package,
            "fqn": [package, "rooms"],
        }
        for package in ("flights", "lib")
    }
    new_release(tmp_path, monkeypatch, one={"nodes": [], "added": added})
    monkeypatch.setattr(folders, "MOST_TASKS", 1 if is_large else 10)
    dag_bag = bag(tmp_path, entries("one"))
    if not is_large:
        # So mwaa_release refuses it.
        assert "has already been added" in str(dag_bag.import_errors)
        return
    dag = dag_bag.dags["one"]
    assert _transform_tasks(dag) == {"models", "lib", "dbt_producer_watcher", "dbt_producer_watcher_done"}
    watched = {task: dag.get_task(f"transform_data.{task}").node_ids for task in ("models", "lib")}
    assert watched == {"models": ["model.flights.rooms"], "lib": ["model.lib.rooms"]}


CHAIN = (
    "        load_sources >> audit_dbt_task >> transform_data >> dbt_check\n"
    "        dbt_check >> [pipeline_succeeded, sns_notification_for_failure]\n"
)


def test_dag_file_is_short_and_reads_like_the_diagram() -> None:
    text = (DAGS / "pipelines.py").read_text()
    assert CHAIN in text
    assert len(text.splitlines()) <= 40
    # Airflow looks for DAGs only in files that contain both words.
    assert "airflow" in text
    assert "DAG" in text
    assert "._" not in text
    assert "import _" not in text


def test_team_can_add_a_task_by_editing_one_line(tmp_path: Path) -> None:
    dag_bag = bag(tmp_path, entries("one"))
    audit = set(dag_bag.dags["one"].task_group.get_child_by_label("audit_dbt_task").children)
    path = tmp_path / "pipelines.py"
    text = path.read_text()
    path.write_text(text.replace(CHAIN, CHAIN.replace("load_", 'EmptyOperator(task_id="wait") >> load_', 1)))
    assert sum(map(str.__ne__, text.splitlines(), path.read_text().splitlines())) == 1
    dag_bag = DagBag(str(tmp_path))
    assert dag_bag.import_errors == {}
    assert dag_bag.dags["one"].get_task("wait").downstream_task_ids == audit
    # dbt_check also reports a failure of this task.
    assert "wait" in dag_bag.dags["one"].get_task("dbt_check").get_flat_relative_ids(upstream=True)


@pytest.mark.parametrize("function", ["", "sns_lambda_function_name: alert"])
def test_alert_task_exists_only_with_an_alert_function(tmp_path: Path, function: str) -> None:
    dag = bag(tmp_path, entries("one", one=function)).dags["one"]
    assert dag.get_task("dbt_check").downstream_task_ids == {"pipeline_succeeded"} | (
        {"sns_notification_for_failure"} if function else set()
    )


def test_project_with_all_its_models_in_packages_has_a_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_release(tmp_path, monkeypatch)
    (release,) = (tmp_path / "dbt" / "flights").iterdir()
    shutil.rmtree(release / "models")
    details = json.loads((release / "release.json").read_text())
    details["files"] = [file for file in details["files"] if not file["path"].startswith("models/")]
    (release / "release.json").write_text(json.dumps(details))
    dag_bag = bag(tmp_path, entries("one"))
    assert (list(dag_bag.dags), dag_bag.import_errors) == (["one"], {})


def test_audit_group_does_nothing_without_audit_trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_release(tmp_path, monkeypatch, audit={"nodes": []})
    dag = bag(tmp_path, entries("one")).dags["one"]
    (task,) = dag.roots
    assert task.task_id == "audit_dbt_task.no_audit_trail"
    assert isinstance(task, EmptyOperator)
    transform = dag.task_group.get_child_by_label("transform_data")
    assert task.downstream_task_ids == {root.task_id for root in transform.roots}
    serialized(dag)


# --- JSON schema for editors --------------------------------------------------------------------------------------


def test_settings_module_prints_its_json_schema() -> None:
    command = [sys.executable, "-m", "mwaa_pipelines.settings"]
    printed = subprocess.run(command, cwd=DAGS, capture_output=True, text=True, check=True).stdout
    assert printed == settings.json_schema()


def test_json_schema_accepts_the_sample_and_rejects_wrong_settings() -> None:
    import jsonschema

    schema = json.loads(settings.json_schema())
    text = (DAGS / "pipelines.yml").read_text()
    assert text.startswith("# yaml-language-server: $schema=")
    # JSON has no dates.
    content = json.loads(json.dumps(yaml.safe_load(text), default=str))
    jsonschema.validate(content, schema)
    wrong_defaults = ([], {"threads": "many"}, {"thread": 1}, {"test_behavior": "after_all"})
    jsonschema.validate(json.loads(json.dumps(yaml.safe_load(entries("one", one=ENVIRONMENTS.strip())))), schema)
    wrong_environments = ({}, [], {"dev": []}, {"dev": {"thread": 1}}, {"dev": {"dag_name": "x"}}, {"../x": {}})
    wrong_defaults += tuple({"environments": environments} for environments in wrong_environments)
    wrong_files = [[], {}, {"pipelines": []}, {"pipelines": {}}, {"pipelines": [{}]}, {**content, "pipeline": []}]
    for wrong in [*wrong_files, *({**content, "defaults": defaults} for defaults in wrong_defaults)]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
