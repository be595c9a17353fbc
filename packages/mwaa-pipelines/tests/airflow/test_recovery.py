"""Results that dbt could not write to the audit table are stored in S3 until an audit task writes them."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance
from cosmos.operators.local import DbtRunLocalOperator

from mwaa_pipelines import unwritten_rows
from mwaa_pipelines.unwritten_rows import (
    CHUNKS,
    KEPT_RESULTS,
    SAFE_KEY,
    chunks,
    delete_stored_results,
    finish_callbacks,
    inject_stored_results,
    store_unwritten_results,
    unwritten_results,
)

RUN = {"invocation_id": "i", "release_id": "r", "airflow_try_number": "1"}
STEP = {"name": "execute", "started_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:00:01Z"}
DBT_RESULT = {
    "unique_id": "model.p.a",
    "status": "success",
    "execution_time": 1.5,
    "message": "SELECT",
    "failures": None,
    "thread_id": "Thread-1",
    "timing": [STEP],
    "adapter_response": {"_message": "SELECT", "rows_affected": 7},
    "compiled_code": "select 1",
}
STORED_RESULT = {
    "unique_id": "model.p.a",
    "status": "success",
    "execution_time": 1.5,
    "message": "SELECT",
    "failures": None,
    "thread_id": "Thread-1",
    "max_loaded_at": None,
    "timing": [{"started_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:00:01Z"}],
    "adapter_response": {"rows_affected": 7},
}


def log_message(text: str) -> str:
    return json.dumps({"info": {"name": "JinjaLogDebug"}, "data": {"msg": text}}) + "\n"


def node_finished(unique_id: str = "model.p.a", **result: Any) -> str:
    """A NodeFinished event as dbt 1.11 writes it to its log."""
    reported = {
        "status": "success",
        "execution_time": 1.5,
        "message": "SELECT",
        "num_failures": 0,
        "thread": "Thread-1",
        "timing_info": [STEP],
        "adapter_response": {"_message": "SELECT", "rows_affected": 7.0},
        **result,
    }
    node = {"unique_id": unique_id, "resource_type": unique_id.split(".")[0]}
    return json.dumps({"info": {"name": "NodeFinished"}, "data": {"node_info": node, "run_result": reported}}) + "\n"


AUDIT_STARTED = log_message("audit_run " + json.dumps(RUN))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "target").mkdir()
    return tmp_path


def write(project: Path, log: str, results: list[dict[str, Any]] | None = None, invocation_id: str = "i") -> None:
    (project / "logs" / "dbt.log").write_text(log)
    if results is not None:
        content = {"metadata": {"invocation_id": invocation_id}, "results": results}
        (project / "target" / "run_results.json").write_text(json.dumps(content))


def context(ti: TaskInstance) -> dict[str, Any]:
    return {"ti": ti, "task": SimpleNamespace(env={"DBT_RELEASE_ID": "r"})}


def test_run_results_have_precedence_over_the_log(project: Path) -> None:
    hook = {**DBT_RESULT, "unique_id": "operation.p.p-on-run-end-0", "status": "error"}
    write(project, AUDIT_STARTED + node_finished(execution_time=9), [DBT_RESULT, hook])
    assert unwritten_results(project) == (RUN, [STORED_RESULT])


def test_results_after_an_interrupt_are_read_from_the_log(project: Path) -> None:
    late = node_finished("test.p.late.x", status="pass", adapter_response={})
    write(project, AUDIT_STARTED + node_finished() + late, [DBT_RESULT])
    _, results = unwritten_results(project)
    assert {result["unique_id"]: result["status"] for result in results} == {
        "model.p.a": "success",
        "test.p.late.x": "pass",
    }


def test_results_of_a_killed_dbt_are_read_from_its_log(project: Path) -> None:
    failed = node_finished("test.p.t.x", status="fail", num_failures=3, message="", adapter_response={}, timing_info=[])
    view = node_finished("model.p.b", message="", adapter_response={"rows_affected": -1.0})
    write(project, AUDIT_STARTED + node_finished() + view + failed + node_finished()[:99])
    run, results = unwritten_results(project)
    assert run == RUN
    test = {**STORED_RESULT, "unique_id": "test.p.t.x", "status": "fail", "failures": 3, "message": None}
    assert results == [
        STORED_RESULT,
        {**STORED_RESULT, "unique_id": "model.p.b", "message": None, "adapter_response": {"rows_affected": -1}},
        {**test, "timing": [], "adapter_response": {}},
    ]


@pytest.mark.parametrize("content", ["{", "", json.dumps({"metadata": {"invocation_id": "another"}, "results": []})])
def test_truncated_run_results_and_other_invocations_are_ignored(project: Path, content: str) -> None:
    write(project, AUDIT_STARTED + node_finished())
    (project / "target" / "run_results.json").write_text(content)
    assert unwritten_results(project) == (RUN, [STORED_RESULT])


@pytest.mark.parametrize(
    ("log", "place", "safe"),
    [
        (AUDIT_STARTED + node_finished(), "", {"unique_ids": ["model.p.a"]}),
        (AUDIT_STARTED, "", {"unique_ids": []}),
        (AUDIT_STARTED + node_finished() + log_message("audit_recorded"), "", {"unique_ids": None}),
        # dbt_check tries again what could not be stored.
        (AUDIT_STARTED + node_finished(), "s3://no-such-bucket/kept_results", None),
    ],
)
def test_producer_pushes_the_ids_of_safe_results(
    project: Path, ti: TaskInstance, bucket: Any, monkeypatch: pytest.MonkeyPatch, log: str, place: str, safe: Any
) -> None:
    if place:
        monkeypatch.setenv(KEPT_RESULTS, place)
    write(project, log)
    store_unwritten_results(str(project), {"ti": ti, "task": SimpleNamespace(watched_together={})})
    assert ti.xcom_pull(key=SAFE_KEY) == safe


def test_sigterm_does_not_interrupt_a_callback(
    project: Path, ti: TaskInstance, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's handler ends dbt, which has ended already."""
    operator = DbtRunLocalOperator(task_id="t", project_dir=".", profile_config=None, invocation_mode="subprocess")
    operator.subprocess_hook.run_command(["true"])
    finish_callbacks(operator)
    before = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    monkeypatch.setattr(unwritten_rows, "chunks", lambda *_: [os.kill(os.getpid(), signal.SIGTERM) or "{}"])
    try:
        write(project, AUDIT_STARTED, [DBT_RESULT])
        store_unwritten_results(str(project), {"ti": ti})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(list(bucket.objects.all())) == 1


@pytest.mark.parametrize(
    "log",
    [
        AUDIT_STARTED + node_finished() + log_message("audit_recorded"),
        # The audit is disabled, or the command writes no audit rows.
        node_finished(),
        "",
        AUDIT_STARTED,
    ],
)
def test_recorded_and_unaudited_results_are_not_stored(project: Path, ti: TaskInstance, bucket: Any, log: str) -> None:
    write(project, log)
    store_unwritten_results(str(project), {"ti": ti})
    assert list(bucket.objects.all()) == []


def test_stored_results_are_injected_until_the_audit_task_succeeds(
    project: Path, ti: TaskInstance, bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(project, AUDIT_STARTED, [DBT_RESULT])
    store_unwritten_results(str(project), {"ti": ti})
    assert "1 results are not in the audit table" in caplog.text
    assert [entry.key for entry in bucket.objects.all()] == ["kept_results/flights_pipeline/i.0000.json"]

    audit = context(ti)
    inject_stored_results(audit)
    assert set(audit["task"].env) == {"DBT_RELEASE_ID", "DBT_AUDIT_KEPT_0"}
    assert json.loads(audit["task"].env["DBT_AUDIT_KEPT_0"]) == {"run": RUN, "results": [STORED_RESULT]}
    # delete_stored_results does not run after a failed task, so the next task gets the results again.
    again = context(ti)
    inject_stored_results(again)
    assert again["task"].env == audit["task"].env
    delete_stored_results(again)
    assert list(bucket.objects.all()) == []
    delete_stored_results(again)
    last = context(ti)
    inject_stored_results(last)
    delete_stored_results(last)
    assert last["task"].env == {"DBT_RELEASE_ID": "r"}


def test_stored_results_of_another_pipeline_are_ignored(project: Path, bucket: Any) -> None:
    write(project, AUDIT_STARTED, [DBT_RESULT])
    store_unwritten_results(str(project), {"ti": TaskInstance(dag_id="flights")})
    audit = context(TaskInstance())
    inject_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}


def test_many_results_are_split_into_chunks_within_linux_limits(project: Path, ti: TaskInstance, bucket: Any) -> None:
    results = [
        {**DBT_RESULT, "unique_id": f"model.p.m{number}", "message": "\N{AIRPLANE}" * 5000} for number in range(100)
    ]
    write(project, AUDIT_STARTED, results)
    run, unwritten = unwritten_results(project)
    texts = list(chunks(run, unwritten))
    assert [result for text in texts for result in json.loads(text)["results"]] == unwritten
    assert max(map(len, texts)) <= 100_000
    assert len(texts) > CHUNKS

    store_unwritten_results(str(project), {"ti": ti})
    recorded_ids: set[str] = set()
    while list(bucket.objects.all()):
        audit = context(ti)
        inject_stored_results(audit)
        injected = [text for name, text in audit["task"].env.items() if name.startswith("DBT_AUDIT_KEPT_")]
        assert 0 < len(injected) <= CHUNKS
        recorded_ids |= {result["unique_id"] for text in injected for result in json.loads(text)["results"]}
        delete_stored_results(audit)
    assert len(recorded_ids) == 100


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[]", b"null", b'{"run": {}, "results": []}', b'{"run": 1}'])
def test_invalid_stored_object_is_logged_and_not_deleted(
    ti: TaskInstance, bucket: Any, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    bucket.put_object(Key="kept_results/flights_pipeline/a.json", Body=content)
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}
    assert "Delete it" in caplog.text
    assert [entry.key for entry in bucket.objects.all()] == ["kept_results/flights_pipeline/a.json"]


def test_missing_bucket_setting_is_logged(
    project: Path, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(KEPT_RESULTS, raising=False)
    write(project, AUDIT_STARTED, [DBT_RESULT])
    store_unwritten_results(str(project), {"ti": ti})
    assert "dbt.kept_results is not set" in caplog.text
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}


def test_s3_and_log_errors_are_logged_and_not_raised(
    project: Path, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEPT_RESULTS, "s3://no-such-bucket/kept_results")
    write(project, AUDIT_STARTED, [DBT_RESULT])
    store_unwritten_results(str(project), {"ti": ti})
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results({**audit, "kept_results": ["a"]})
    write(project, '"NodeFinished"\n')
    store_unwritten_results(str(project), {"ti": ti})
    assert len([record for record in caplog.records if record.exc_info]) == 4
