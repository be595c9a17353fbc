"""What dbt could not write to the audit table is kept in S3, and handed to the next audit task until it is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance

from mwaa_pipelines.unwritten_rows import (
    CHUNKS,
    KEPT_RESULTS,
    chunks,
    delete_stored_results,
    inject_stored_results,
    store_unwritten_results,
    unwritten_results,
)

RUN = {"invocation_id": "i", "release_id": "r", "airflow_try_number": "1"}
STEP = {"name": "execute", "started_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:00:01Z"}
WRITTEN = {
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
KEPT = {
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


def said(text: str) -> str:
    return json.dumps({"info": {"name": "JinjaLogDebug"}, "data": {"msg": text}}) + "\n"


def finished(unique_id: str = "model.p.a", **result: Any) -> str:
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


BEGAN = said("audit_run " + json.dumps(RUN))


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


def test_results_are_those_that_dbt_wrote_down(project: Path) -> None:
    hook = {**WRITTEN, "unique_id": "operation.p.p-on-run-end-0", "status": "error"}
    write(project, BEGAN + finished("model.p.other"), [WRITTEN, hook])
    assert unwritten_results(project) == (RUN, [KEPT])


def test_a_killed_process_has_results_in_its_log_only(project: Path) -> None:
    failed = finished("test.p.t.x", status="fail", num_failures=3, message="", adapter_response={}, timing_info=[])
    view = finished("model.p.b", message="", adapter_response={"rows_affected": -1.0})
    write(project, BEGAN + finished() + view + failed + finished()[:99])
    run, results = unwritten_results(project)
    assert run == RUN
    test = {**KEPT, "unique_id": "test.p.t.x", "status": "fail", "failures": 3, "message": None}
    assert results == [
        KEPT,
        {**KEPT, "unique_id": "model.p.b", "message": None, "adapter_response": {"rows_affected": -1}},
        {**test, "timing": [], "adapter_response": {}},
    ]


@pytest.mark.parametrize("content", ["{", "", json.dumps({"metadata": {"invocation_id": "another"}, "results": []})])
def test_half_a_file_and_that_of_another_process_are_not_believed(project: Path, content: str) -> None:
    write(project, BEGAN + finished())
    (project / "target" / "run_results.json").write_text(content)
    assert unwritten_results(project) == (RUN, [KEPT])


@pytest.mark.parametrize(
    "log",
    [
        BEGAN + finished() + said("audit_recorded"),
        # The audit is switched off, or it is a command that leaves no rows.
        finished(),
        "",
        BEGAN,
    ],
)
def test_nothing_is_kept_of_what_is_recorded_or_not_to_be(
    project: Path, ti: TaskInstance, bucket: Any, log: str
) -> None:
    write(project, log)
    store_unwritten_results(str(project), {"ti": ti})
    assert list(bucket.objects.all()) == []


def test_what_is_kept_is_handed_over_and_forgotten(
    project: Path, ti: TaskInstance, bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(project, BEGAN, [WRITTEN])
    store_unwritten_results(str(project), {"ti": ti})
    assert "1 results are not in the audit table" in caplog.text
    assert [entry.key for entry in bucket.objects.all()] == ["kept_results/flights_pipeline/i.0000.json"]

    audit = context(ti)
    inject_stored_results(audit)
    assert set(audit["task"].env) == {"DBT_RELEASE_ID", "DBT_AUDIT_KEPT_0"}
    assert json.loads(audit["task"].env["DBT_AUDIT_KEPT_0"]) == {"run": RUN, "results": [KEPT]}
    # A task that fails is not followed by delete_stored_results: they are handed over again.
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


def test_another_pipelines_results_are_left_to_it(project: Path, bucket: Any) -> None:
    write(project, BEGAN, [WRITTEN])
    store_unwritten_results(str(project), {"ti": TaskInstance(dag_id="flights")})
    audit = context(TaskInstance())
    inject_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}


def test_many_results_go_in_pieces_that_linux_takes(project: Path, ti: TaskInstance, bucket: Any) -> None:
    results = [
        {**WRITTEN, "unique_id": f"model.p.m{number}", "message": "\N{AIRPLANE}" * 5000} for number in range(100)
    ]
    write(project, BEGAN, results)
    run, unwritten = unwritten_results(project)
    texts = list(chunks(run, unwritten))
    assert [result for text in texts for result in json.loads(text)["results"]] == unwritten
    assert max(map(len, texts)) <= 100_000
    assert len(texts) > CHUNKS

    store_unwritten_results(str(project), {"ti": ti})
    seen: set[str] = set()
    while list(bucket.objects.all()):
        audit = context(ti)
        inject_stored_results(audit)
        handed = [text for name, text in audit["task"].env.items() if name.startswith("DBT_AUDIT_KEPT_")]
        assert 0 < len(handed) <= CHUNKS
        seen |= {result["unique_id"] for text in handed for result in json.loads(text)["results"]}
        delete_stored_results(audit)
    assert len(seen) == 100


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[]", b"null", b'{"run": {}, "results": []}', b'{"run": 1}'])
def test_an_object_that_is_something_else_is_left_alone(
    ti: TaskInstance, bucket: Any, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    bucket.put_object(Key="kept_results/flights_pipeline/a.json", Body=content)
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}
    assert "Delete it" in caplog.text
    assert [entry.key for entry in bucket.objects.all()] == ["kept_results/flights_pipeline/a.json"]


def test_without_a_place_the_loss_is_told(
    project: Path, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(KEPT_RESULTS, raising=False)
    write(project, BEGAN, [WRITTEN])
    store_unwritten_results(str(project), {"ti": ti})
    assert "dbt.kept_results is not set" in caplog.text
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results(audit)
    assert audit["task"].env == {"DBT_RELEASE_ID": "r"}


def test_what_is_wrong_with_s3_or_the_log_is_not_raised(
    project: Path, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEPT_RESULTS, "s3://no-such-bucket/kept_results")
    write(project, BEGAN, [WRITTEN])
    store_unwritten_results(str(project), {"ti": ti})
    audit = context(ti)
    inject_stored_results(audit)
    delete_stored_results({**audit, "kept_results": ["a"]})
    write(project, '"NodeFinished"\n')
    store_unwritten_results(str(project), {"ti": ti})
    assert len([record for record in caplog.records if record.exc_info]) == 4
