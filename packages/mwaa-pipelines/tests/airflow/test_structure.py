"""The DAG reads like its diagram: load, audit, transform, check, then alert or success."""

import itertools
import json
from typing import Any

import pytest
from conftest import serialized

from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.release import release_tag
from mwaa_pipelines.reporting import ENVIRONMENT
from mwaa_pipelines.results import push_error, push_results
from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER
from mwaa_pipelines.unwritten_rows import delete_stored_results, inject_stored_results, store_unwritten_results

PRODUCER = "transform_data.dbt_producer_watcher"


def test_tag_names_the_release_that_the_smoke_test_waits_for(dag: Any) -> None:
    release_id = dag.get_task(PRODUCER).env["DBT_RELEASE_ID"]
    assert release_tag(release_id) == f"release:{release_id}"
    assert {"dbt", f"release:{release_id}", "flights"} <= set(dag.tags)


def _sensors(dag: Any) -> list[Any]:
    return [task for task in dag.tasks if hasattr(task, "producer_task_id")]


def test_dag_runs_load_audit_transform_check_and_alert_in_order(dag: Any) -> None:
    audit = dag.get_task("audit_dbt_task.audit_table_model_build")
    check = dag.get_task("dbt_check")
    transform = {task.task_id for task in dag.tasks if task.task_id.startswith("transform_data.")}
    assert {task.task_id for task in dag.tasks} - transform == {
        "load_sources.copy_files",
        "audit_dbt_task.audit_table_model_build",
        "dbt_check",
        "pipeline_succeeded",
        "sns_notification_for_failure",
    }
    assert dag.get_task("load_sources.copy_files").upstream_task_ids == set()
    assert audit.upstream_task_ids == {"load_sources.copy_files"}
    roots = {task_id for task_id in transform if not dag.get_task(task_id).upstream_task_ids & transform}
    assert audit.downstream_task_ids == roots
    leaves = {task_id for task_id in transform if not dag.get_task(task_id).downstream_task_ids & transform}
    assert check.upstream_task_ids == leaves
    assert check.downstream_task_ids == {"pipeline_succeeded", "sns_notification_for_failure"}


def test_failed_run_stays_failed_even_if_the_alert_succeeds(dag: Any) -> None:
    assert {task.task_id for task in dag.tasks if not task.downstream_task_ids} == {
        "pipeline_succeeded",
        "sns_notification_for_failure",
    }
    succeeded = dag.get_task("pipeline_succeeded")
    assert succeeded.trigger_rule == "all_success"
    assert [asset.name for asset in succeeded.outlets] == [dag.dag_id]
    # Not one_failed: it also alerts about warnings and recoveries. dbt_check skips it if there is nothing to send.
    assert dag.get_task("sns_notification_for_failure").trigger_rule == "all_done"
    check = dag.get_task("dbt_check")
    assert (check.trigger_rule, check.retries) == ("all_done", 0)


def test_only_dbt_check_updates_the_assets_of_public_models(dag: Any) -> None:
    # Airflow ignores the outlets of sensors, which end in the triggerer. https://github.com/apache/airflow/issues/49347
    outlets = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {"dbt_check": ["flights.daily_performance"], "pipeline_succeeded": [dag.dag_id]}


def test_sensors_start_at_once_and_other_tasks_after_their_upstream_tasks(
    dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rules(of: Any) -> dict[bool, set[str]]:
        tasks = [task for task in of.tasks if "." in task.task_id and task.task_id != f"{PRODUCER}_done"]
        watching = {task: hasattr(task, "producer_task_id") for task in tasks}
        return {kind: {task.trigger_rule for task in tasks if watching[task] is kind} for kind in (True, False)}

    # Cosmos adds this task after the producer.
    assert dag.get_task(f"{PRODUCER}_done").trigger_rule == "none_failed"
    assert rules(dag) == {True: {"always" if STARTS_IN_TRIGGERER else "all_success"}, False: {"all_success"}}
    assert {task.start_from_trigger for task in _sensors(dag)} == {STARTS_IN_TRIGGERER}


def test_model_and_test_tasks_are_upstream_of_dependent_models(dag: Any, manifest: dict[str, Any]) -> None:
    nodes = [node for node in manifest["nodes"].values() if node["package_name"] != "audit_trail"]
    tests = [node for node in nodes if node["resource_type"] == "test"]
    built = {node["unique_id"]: node for node in nodes if node["resource_type"] in {"model", "seed", "snapshot"}}
    assert len(built) > 10
    verb = {"model": "run", "seed": "seed", "snapshot": "snapshot"}
    tasks: dict[str, set[str]] = {}
    for unique_id, node in built.items():
        name, suffix = f"transform_data.{node['name']}", verb[node["resource_type"]]
        node_tests = {test["unique_id"] for test in tests if unique_id in test["depends_on"]["nodes"]}
        tasks[unique_id] = {f"{name}.{suffix}", f"{name}.test"} if node_tests else {f"{name}_{suffix}"}
        assert set(dag.get_task(PRODUCER).tests_per_model.get(unique_id, [])) == node_tests
    assert {task.task_id for task in _sensors(dag)} == set().union(*tasks.values())
    for unique_id, node in built.items():
        parents = [tasks[parent] for parent in node["depends_on"].get("nodes", []) if parent in built]
        upstream = set().union(*parents)
        for task_id in tasks[unique_id]:
            task = dag.get_task(task_id)
            assert task.model_unique_id == unique_id
            # The tests of a node are downstream of it if that does not let them start later.
            of_node = {task.task_of_model} if task.is_test_sensor and STARTS_IN_TRIGGERER else set()
            assert task.upstream_task_ids == (upstream | of_node or {"audit_dbt_task.audit_table_model_build"})


def test_one_dbt_process_builds_all_nodes_except_the_audit(dag: Any) -> None:
    producer = dag.get_task(PRODUCER)
    assert producer.retries == 0
    assert producer.base_cmd == ["build"]
    assert producer.exclude.split()[:2] == ["tag:audit", "tag:audit_view"]
    assert not producer.select
    assert {task.producer_task_id for task in _sensors(dag)} == {PRODUCER}


def test_only_the_last_two_tasks_can_use_worker_slots_in_parallel(dag: Any) -> None:
    # A sensor needs a worker slot only for a retry, and for a moment before Airflow 3.3.
    sensor_ids = {task.task_id for task in _sensors(dag)}
    # Airflow ends empty tasks without a worker, unless they update an asset.
    workers = {task.task_id for task in dag.tasks if not task.inherits_from_empty_operator or task.outlets} - sensor_ids
    one_by_one = ["load_sources.copy_files", "audit_dbt_task.audit_table_model_build", PRODUCER, "dbt_check"]
    last = {"pipeline_succeeded", "sns_notification_for_failure"}
    assert workers == {*one_by_one, *last}
    for before, after in itertools.pairwise(one_by_one):
        assert after in dag.get_task(before).get_flat_relative_ids(upstream=False)
    assert dag.get_task("dbt_check").downstream_task_ids == last


def test_sensors_are_small_operators(dag: Any) -> None:
    # Cosmos's classes have slow constructors, and template fields that Airflow stores with each task.
    for task in _sensors(dag):
        assert [base.__module__ for base in type(task).__mro__ if base.__module__.startswith("cosmos")] == []
        assert task.template_fields == ("model_unique_id", "select")
    sizes = [
        len(json.dumps(task))
        for task in serialized(dag)["dag"]["tasks"]
        if task["__var"]["task_type"].endswith("Sensor")
    ]
    assert len(sizes) == len(_sensors(dag))
    # Airflow 3.0 also stores default values.
    assert sum(sizes) / len(sizes) < (1300 if STARTS_IN_TRIGGERER else 2300)


def test_sensors_and_the_audit_task_use_the_retry_settings(dag: Any) -> None:
    retried = [*_sensors(dag), dag.get_task("audit_dbt_task.audit_table_model_build")]
    # Sensors make the retries of their nodes themselves.
    assert {task.retries + getattr(task, "node_retries", 0) for task in retried} == {1}
    assert {task.retry_delay.total_seconds() for task in retried} == {30}


def test_every_dbt_task_stores_results_and_errors(dag: Any) -> None:
    watching = _sensors(dag)
    dbt = [task for task in dag.tasks if hasattr(task, "project_dir")]
    assert len(dbt) == 2
    assert {tuple(task.on_failure_callback) for task in [*dbt, *watching]} == {(push_error,)}
    # Sensors' retries run dbt.
    for task in [*dbt, *(sensor.dbt_task(sensor.select) for sensor in watching)]:
        assert task.callback[:2] == [store_unwritten_results, push_results], task.task_id
        assert task.install_deps is False, task.task_id
        assert task.env["DBT_RELEASE_ID"] in dag.doc_md, task.task_id
        assert ENVIRONMENT.items() <= task.env.items(), task.task_id
    # Airflow also calls this hook when a deferred task resumes. A sensor needs dbt only for a retry and checks then.
    assert {task.task_id for task in dbt if task._pre_execute_hook is prepare} == {
        "audit_dbt_task.audit_table_model_build",
        PRODUCER,
    }
    audit = dag.get_task("audit_dbt_task.audit_table_model_build")
    assert audit.on_execute_callback == [inject_stored_results]
    assert audit.on_success_callback == [delete_stored_results]
