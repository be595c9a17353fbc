"""The parameters of a run: what cannot be is refused before anything runs, the rest reaches dbt as arguments."""

import copy
from pathlib import Path
from typing import Any

import pytest
from conftest import DagSerialization, serialized

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.parameters import hand_over, prepare

PRODUCER = "transform_data.dbt_producer_watcher"
AUDIT = "audit_dbt_task.audit_table_model_build"
NONE = {"start": None, "end": None, "full_refresh": False, "select": []}
SQL = "1; drop table analytics.audit_table; --"


def validate(dag: Any, **given: Any) -> None:
    """As the API server does it when somebody starts a run: with the parameters of the stored DAG."""
    params = DagSerialization.from_dict(serialized(dag)).params
    if hasattr(params, "deep_merge"):
        params = params.deep_merge(given)
    else:
        params.update(given)
    params.validate()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"start": "2013-01-01", "end": "2013-02-01"},
        {
            "full_refresh": True,
            "select": ["tag:mart", "+fct_flights+1", "path:models/marts", "a,config.materialized:table"],
        },
    ],
)
def test_what_makes_sense_is_taken(dag: Any, given: dict[str, Any]) -> None:
    validate(dag, **given)


@pytest.mark.parametrize(
    "given",
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
    ],
)
def test_what_is_no_day_or_selector_is_refused_when_the_run_is_made(dag: Any, given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(Exception, match=r"Invalid input for param|Failed validating") as raised:
        validate(dag, **given)
    assert name in str(raised.value) or str(value).strip("[']") in str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"start": "2013-01-01"}, "start=2013-01-01 and end=None go together"),
        ({"end": "2013-01-01"}, "start=None and end=2013-01-01 go together"),
        ({"start": "2013-02-01", "end": "2013-01-01"}, "start=2013-02-01 must be before end=2013-01-01"),
        ({"start": "2013-01-01", "end": "2013-01-01"}, "start=2013-01-01 must be before end=2013-01-01"),
    ],
)
@pytest.mark.usefixtures("installed_dbt")
def test_days_that_are_no_span_fail_the_first_task(dag: Any, given: dict[str, Any], words: str) -> None:
    task = dag.get_task(AUDIT)
    assert task._pre_execute_hook is prepare
    with pytest.raises(AirflowFailException, match=words):
        prepare({"task": task, "params": {**NONE, **given}})


@pytest.mark.usefixtures("installed_dbt")
def test_a_valid_range_reaches_the_dbt_process(dag: Any) -> None:
    producer = copy.copy(dag.get_task(PRODUCER))
    prepare({"task": producer, "params": {**NONE, "start": "2013-01-31", "end": "2013-02-01"}})
    assert producer.vars == {"backfill_start": "2013-01-31", "backfill_end": "2013-02-01"}
    assert producer.cache_dir.name == Path(producer.project_dir).name


def test_a_run_without_parameters_changes_nothing(dag: Any) -> None:
    producer = dag.get_task(PRODUCER)
    before = (producer.select, producer.vars, producer.full_refresh, producer.dbt_cmd_flags)
    hand_over(producer, NONE)
    assert (producer.select, producer.vars, producer.full_refresh, producer.dbt_cmd_flags) == before


@pytest.mark.parametrize(
    ("own", "select"),
    [(None, "tag:mart x+"), ("+a tag:b", "+a,tag:mart +a,x+ tag:b,tag:mart tag:b,x+")],
)
def test_the_one_dbt_process_follows_them(dag: Any, own: str | None, select: str) -> None:
    producer = copy.copy(dag.get_task(PRODUCER))
    producer.select = own
    params = {"start": "2013-01-01", "end": "2013-02-01", "full_refresh": True, "select": ["tag:mart", "x+"]}
    hand_over(producer, params)
    assert producer.select == select
    assert producer.vars == {"backfill_start": "2013-01-01", "backfill_end": "2013-02-01"}
    assert producer.add_cmd_flags()[0] == "--full-refresh"
    assert producer.dbt_cmd_flags == ["--event-time-start", "2013-01-01", "--event-time-end", "2013-02-01"]


def test_the_audit_table_is_never_built_from_nothing(dag: Any) -> None:
    audit = dag.get_task(AUDIT)
    hand_over(audit, {**NONE, "full_refresh": True, "select": ["tag:mart"]})
    assert audit.full_refresh is False
    assert "tag:mart" not in audit.select
