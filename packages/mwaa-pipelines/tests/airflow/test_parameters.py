"""Run parameters: invalid values fail before dbt starts, valid values become dbt arguments."""

import copy
from pathlib import Path
from typing import Any

import pytest
from conftest import DagSerialization, TaskInstance, entries, serialized
from test_pipelines import bag

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.parameters import hand_over, prepare

PRODUCER = "transform_data.dbt_producer_watcher"
FRESHNESS = "transform_data.source_freshness"
AUDIT = "audit_dbt_task.audit_table_model_build"
DEFAULTS = {"start": None, "end": None, "full_refresh": False, "select": []}
SQL = "1; drop table analytics.audit_table; --"


def validate(dag: Any, **values: Any) -> None:
    """Validate parameters as the API server does when a run is triggered: with the stored DAG."""
    params = DagSerialization.from_dict(serialized(dag)).params
    if hasattr(params, "deep_merge"):
        params = params.deep_merge(values)
    else:
        params.update(values)
    params.validate()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"start": "2013-01-01", "end": "2013-02-01"},
        {"files": ["s3://landing/flights/it's.csv"]},
        {
            "full_refresh": True,
            "select": ["tag:mart", "+fct_flights+1", "path:models/marts", "a,config.materialized:table"],
        },
    ],
)
def test_valid_run_parameters_are_accepted(dag: Any, values: dict[str, Any]) -> None:
    validate(dag, **values)


def test_no_parameter_is_required_in_airflows_form(dag: Any) -> None:
    # Airflow 3's form marks a parameter as required unless its schema allows null.
    for name in dag.params:
        assert "null" in dag.params.get_param(name).schema["type"], name
    validate(dag, full_refresh=None, select=None, files=None)


@pytest.mark.parametrize(
    "values",
    [
        {"start": SQL},
        {"start": "2013-02-30"},
        {"start": "yesterday"},
        {"start": 20130101},
        {"end": "2013-01-01' or '1'='1"},
        {"full_refresh": "true; drop"},
        {"select": [SQL]},
        {"select": ["a --full-refresh"]},
        {"select": ["--vars"]},
        {"select": ["{{ var.value.secret }}"]},
        {"select": "tag:mart"},
        {"files": ["flights/1.csv"]},
        {"files": "s3://landing/flights/1.csv"},
    ],
)
def test_invalid_parameters_are_rejected_when_a_run_is_triggered(dag: Any, values: dict[str, Any]) -> None:
    ((name, value),) = values.items()
    with pytest.raises(Exception, match=r"Invalid input for param|Failed validating") as raised:
        validate(dag, **values)
    assert name in str(raised.value) or str(value).strip("[']") in str(raised.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start": "2013-01-01"}, "start=2013-01-01 and end=None go together"),
        ({"end": "2013-01-01"}, "start=None and end=2013-01-01 go together"),
        ({"start": "2013-02-01", "end": "2013-01-01"}, "start=2013-02-01 must be before end=2013-01-01"),
        ({"start": "2013-01-01", "end": "2013-01-01"}, "start=2013-01-01 must be before end=2013-01-01"),
    ],
)
@pytest.mark.usefixtures("installed_dbt")
def test_invalid_date_range_fails_the_first_task(dag: Any, values: dict[str, Any], words: str) -> None:
    task = dag.get_task(AUDIT)
    assert task._pre_execute_hook is prepare
    with pytest.raises(AirflowFailException, match=words):
        prepare({"task": task, "params": {**DEFAULTS, **values}})


@pytest.mark.usefixtures("installed_dbt")
def test_valid_date_range_is_passed_to_dbt_as_vars(dag: Any, ti: TaskInstance) -> None:
    producer = copy.copy(dag.get_task(PRODUCER))
    prepare({"ti": ti, "task": producer, "params": {**DEFAULTS, "start": "2013-01-31", "end": "2013-02-01"}})
    assert producer.vars == {"backfill_start": "2013-01-31", "backfill_end": "2013-02-01"}
    assert producer.cache_dir.name == Path(producer.project_dir).name


def test_run_without_parameters_leaves_the_producer_unchanged(dag: Any) -> None:
    producer = dag.get_task(PRODUCER)
    before = (producer.select, producer.vars, producer.full_refresh, producer.dbt_cmd_flags)
    for params in (DEFAULTS, {**DEFAULTS, "full_refresh": None, "select": None}):
        hand_over(producer, params)
        assert (producer.select, producer.vars, producer.full_refresh, producer.dbt_cmd_flags) == before


@pytest.mark.parametrize(
    ("pipeline_select", "select"),
    [(None, "tag:mart x+"), ("+a tag:b", "+a,tag:mart +a,x+ tag:b,tag:mart tag:b,x+")],
)
def test_run_parameters_become_arguments_of_the_producers_dbt(
    dag: Any, pipeline_select: str | None, select: str
) -> None:
    producer = copy.copy(dag.get_task(PRODUCER))
    producer.select = pipeline_select
    params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True, "select": ["tag:mart", "x+"]}
    hand_over(producer, params)
    assert producer.select == select
    assert producer.vars == {"backfill_start": "2013-01-01", "backfill_end": "2013-02-01"}
    assert producer.add_cmd_flags()[0] == "--full-refresh"
    assert producer.dbt_cmd_flags == ["--event-time-start", "2013-01-01", "--event-time-end", "2013-02-01"]


@pytest.mark.parametrize(
    ("chosen", "select"),
    [
        (["orders"], "source:a.b,+orders source:c.d,+orders"),
        (["2+orders+1"], "source:a.b,+orders+1 source:c.d,+orders+1"),
        (["@orders", "tag:x,+y"], "source:a.b,@orders source:a.b,+tag:x,+y source:c.d,@orders source:c.d,+tag:x,+y"),
    ],
)
def test_only_sources_of_chosen_nodes_are_measured(tmp_path: Path, chosen: list[str], select: str) -> None:
    task = copy.copy(bag(tmp_path, entries("one", one="source_freshness: require")).dags["one"].get_task(FRESHNESS))
    task.select = "source:a.b source:c.d"
    hand_over(task, {**DEFAULTS, "select": chosen})
    assert task.select == select


def test_parameter_that_dbt_would_ignore_fails_the_run(dag: Any) -> None:
    producer = copy.copy(dag.get_task(PRODUCER))
    producer.selector = "nightly"
    with pytest.raises(AirflowFailException, match=r"parameter select=\['x\+'\] cannot .* setting selector: nightly"):
        hand_over(producer, {**DEFAULTS, "select": ["x+"]})


def test_run_parameters_do_not_affect_the_audit_task(dag: Any) -> None:
    audit = dag.get_task(AUDIT)
    hand_over(audit, {**DEFAULTS, "full_refresh": True, "select": ["tag:mart"]})
    assert audit.full_refresh is False
    assert "tag:mart" not in audit.select
