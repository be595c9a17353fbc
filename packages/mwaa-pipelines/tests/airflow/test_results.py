"""dbt's results are pushed as XComs for the failure report. An error while pushing never hides dbt's own error."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.results import ERROR_KEY, LAST_WORDS_KEY, RESULTS_KEY, first_error_line, push_error, push_results

RESULT = {"unique_id": "model.flights.a", "status": "error", "message": "Database Error in model a (a.sql)\n  broken"}


def write(folder: Path, content: Any) -> None:
    (folder / "target").mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "target" / "run_results.json").write_text(text)


def test_only_fields_for_the_report_are_pushed(tmp_path: Path, ti: TaskInstance) -> None:
    metadata = {"invocation_id": "i", "generated_at": "2026-01-01T00:00:00Z", "env": {"secret": "x"}}
    result = {**RESULT, "execution_time": 1.5, "compiled_code": "select 1", "adapter_response": {"rows_affected": 7}}
    view = {**result, "unique_id": "model.flights.b", "adapter_response": {"rows_affected": -1}}
    write(tmp_path, {"metadata": metadata, "results": [result, view], "args": {}})
    ti.try_number = 2
    assert push_results(str(tmp_path), {"ti": ti}) is None
    assert ti.xcoms["dbt_check", RESULTS_KEY] == {
        "invocation_id": "i",
        "generated_at": "2026-01-01T00:00:00Z",
        "try_number": 2,
        "is_complete": False,
        "results": [
            {**RESULT, "message": "broken", "execution_time": 1.5, "rows": 7},
            {**RESULT, "unique_id": "model.flights.b", "message": "broken", "execution_time": 1.5, "rows": None},
        ],
    }


@pytest.mark.parametrize(
    ("log", "is_complete"),
    [
        (['{"info": {"name": "ConcurrencyLine"}, "data": {"node_count": 1}}'], True),
        (['{"info": {"name": "ConcurrencyLine"}, "data": {"node_count": 2}}'], False),
        (["words", '{"info": {"name": "ConcurrencyLine"}, "data": {"node_count": 1}}', '{"half'], True),
        (['{"info": {"name": "ConcurrencyLine"}, "data": {}}'], False),
        (['{"info": {"name": "ConcurrencyLine"'], False),
        ([], False),
    ],
)
def test_report_is_complete_if_it_has_each_node_that_dbt_selected(
    tmp_path: Path, ti: TaskInstance, log: list[str], is_complete: bool
) -> None:
    hook = {**RESULT, "unique_id": "operation.flights.on-run-end-0", "execution_time": 1.0}
    metadata = {"invocation_id": "i", "generated_at": "now"}
    write(tmp_path, {"metadata": metadata, "results": [{**RESULT, "execution_time": 1.0}, hook]})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "dbt.log").write_text("\n".join(log))
    push_results(str(tmp_path), {"ti": ti})
    assert ti.xcoms["dbt_check", RESULTS_KEY]["is_complete"] is is_complete


def test_messages_of_thousands_of_failed_nodes_are_short(tmp_path: Path, ti: TaskInstance) -> None:
    metadata = {"invocation_id": "i", "generated_at": "now"}
    results = [
        {**RESULT, "unique_id": f"model.flights.m{number}", "message": "x" * 600, "execution_time": 1.0}
        for number in range(3000)
    ]
    write(tmp_path, {"metadata": metadata, "results": results})
    push_results(str(tmp_path), {"ti": ti})
    entries = ti.xcoms["dbt_check", RESULTS_KEY]["results"]
    assert [len(entry["message"]) for entry in entries] == [500] * 500 + [0] * 2500


@pytest.mark.parametrize("content", ["", "{", "[]", "null", {"metadata": {}}, {"metadata": None, "results": []}])
def test_invalid_run_results_are_logged_and_not_raised(
    tmp_path: Path, ti: TaskInstance, caplog: pytest.LogCaptureFixture, content: Any
) -> None:
    write(tmp_path, content)
    push_results(str(tmp_path), {"ti": ti})
    assert ti.xcoms == {}
    assert len(caplog.records) == 1


def test_lost_connection_to_airflow_is_logged_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> None:
        raise ConnectionError("the API server is gone")

    ti = TaskInstance()
    monkeypatch.setattr(ti, "xcom_push", broken)
    write(tmp_path, {"metadata": {"invocation_id": "i", "generated_at": "now"}, "results": []})
    push_results(str(tmp_path), {"ti": ti})
    push_error({"ti": ti, "exception": ValueError("broken")})
    assert [str(record.exc_info[1]) for record in caplog.records] == ["the API server is gone"] * 2


def event(level: str, message: str) -> str:
    return json.dumps({"data": {}, "info": {"level": level, "msg": message, "name": "MainEncounteredError"}})


def test_last_error_in_dbts_log_is_pushed_if_there_are_no_results(tmp_path: Path, ti: TaskInstance) -> None:
    (tmp_path / "logs").mkdir()
    words = 'Encountered an error:\nDatabase Error\n  FATAL: password authentication failed for user "dbt_user"'
    lines = [event("info", "Running with dbt"), event("error", "first"), event("error", words), event("debug", "over")]
    (tmp_path / "logs" / "dbt.log").write_text("\n".join([*lines, '{"data": {"half']))
    push_results(str(tmp_path), {"ti": ti})
    assert ti.xcoms == {
        ("dbt_check", LAST_WORDS_KEY): 'Database Error FATAL: password authentication failed for user "dbt_user"'
    }


def test_schema_that_dbt_cannot_create_is_named(tmp_path: Path, ti: TaskInstance) -> None:
    (tmp_path / "logs").mkdir()
    lines = [
        event("debug", 'On create_dev_a: create schema if not exists "a"'),
        event("debug", 'On create_dev_raw: /* {"app": "dbt"} */\ncreate schema if not exists "dev"."shop_raw"'),
        event("error", "Encountered an error:\nDatabase Error\n  permission denied for database dev"),
    ]
    (tmp_path / "logs" / "dbt.log").write_text("\n".join(lines))
    push_results(str(tmp_path), {"ti": ti})
    assert ti.xcoms[("dbt_check", LAST_WORDS_KEY)] == (
        'Database Error permission denied for database dev. dbt tried to create the schema "shop_raw". '
        'As a superuser: create schema "shop_raw" authorization <database user of this pipeline>'
    )


@pytest.mark.parametrize("content", [None, "", "words", '{"level": "error"}', event("info", "fine")])
def test_empty_error_is_pushed_if_dbts_log_has_no_error(tmp_path: Path, ti: TaskInstance, content: str | None) -> None:
    if content is not None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "dbt.log").write_text(content)
    push_results(str(tmp_path), {"ti": ti})
    assert ti.xcoms == {("dbt_check", LAST_WORDS_KEY): ""}


@pytest.mark.parametrize(
    ("exception", "message"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(), ""),
        ("text", "text"),
        (ValueError("ä" * 2000), "ä" * 500),
        (ValueError("Database Error in model a (a.sql)\n\n  größer"), "größer"),
    ],
)
def test_task_error_is_pushed_as_one_short_line(ti: TaskInstance, exception: Any, message: str) -> None:
    push_error({"ti": ti, "exception": exception})
    assert ti.xcoms["dbt_check", ERROR_KEY] == {"message": message, "try_number": 1}


@pytest.mark.parametrize("context", [{}, {"exception": None}])
def test_nothing_is_pushed_for_a_task_that_died_with_its_worker(ti: TaskInstance, context: dict[str, Any]) -> None:
    push_error({"ti": ti, **context})
    assert ti.xcoms == {}


@pytest.mark.parametrize("context", [{}, {"ti": None}, {"exception": ValueError()}])
def test_incomplete_context_raises_no_error(context: dict[str, Any], tmp_path: Path) -> None:
    push_error(context)
    write(tmp_path, {"metadata": {"invocation_id": "i", "generated_at": "now"}, "results": []})
    push_results(str(tmp_path), context)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("p.on-run-end.0 failed, error:\n relation does not exist", "relation does not exist"),
        ("p.on-run-end.0 failed, error:\n Compilation Error in macro m (m.sql)\n  no such macro", "no such macro"),
        ("Runtime Error\n  no space left", "no space left"),
        # There is nothing else to show.
        ("Database Error", "Database Error"),
    ],
)
def test_headings_of_dbts_messages_are_left_out(message: str, cause: str) -> None:
    assert first_error_line(message) == cause


@pytest.mark.parametrize("message", ["", None, "\n \n"])
def test_missing_message_is_an_empty_line(message: str | None) -> None:
    assert first_error_line(message) == ""
