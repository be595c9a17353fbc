"""The run ID of a file is unique, reproducible and valid in Airflow."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[3] / "lambda" / "start_pipeline.py"
# Airflow's option scheduler.allowed_run_id_pattern, and the length of the column.
ALLOWED, CHARACTERS = re.compile(r"[A-Za-z0-9_.~:+-]+"), 250
OBJECTS = st.tuples(st.text(), st.text(max_size=1024), st.text())


@pytest.fixture(scope="module")
def module() -> Any:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("ENVIRONMENT_NAME", "flights")
        environment.setenv("DAG_NAME", "flights_pipeline")
        spec = importlib.util.spec_from_file_location("start_pipeline", FILE)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    return loaded


@given(OBJECTS, OBJECTS)
def test_every_file_has_a_unique_and_valid_run_id(
    module: Any, one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    run_id = module.run_id_of(*one)
    assert ALLOWED.fullmatch(run_id)
    assert len(run_id) <= CHARACTERS
    assert run_id == module.run_id_of(*one)
    assert (run_id == module.run_id_of(*other)) == (one == other)


def test_run_id_contains_the_path_of_the_file(module: Any) -> None:
    run_id = module.run_id_of("flights-landing", "flights/2013/01 Jan.csv.gz", "v1")
    assert re.fullmatch(r"landing-flights-2013-01-Jan-csv-gz-[0-9a-f]{16}", run_id)


def start(module: Any, key: str, **ids: str) -> dict[str, Any]:
    detail = {"bucket": {"name": "flights-landing"}, "object": {"key": key, **ids}}
    body = json.dumps({"detail-type": "Object Created", "detail": detail})
    return module.lambda_handler({"Records": [{"body": body}]}, None)[0]


def test_folders_start_no_run_without_a_suffix(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(module._mwaa, "invoke_rest_api", lambda **call: runs.append(call["Body"]))
    assert start(module, "flights/", sequencer="1") == {"key": "flights/", "run_id": None, "new": False}
    assert runs == []
    assert start(module, "flights/readme", sequencer="1")["run_id"] == runs[0]["dag_run_id"]
    # The pipeline loads this file only.
    assert runs[0]["conf"] == {"files": ["s3://flights-landing/flights/readme"]}


def test_objects_without_a_version_are_identified_by_their_event(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._mwaa, "invoke_rest_api", lambda **_: None)
    first, again, later = (start(module, "one.csv", sequencer=event)["run_id"] for event in ("1", "1", "2"))
    assert first == again != later


def test_requests_end_before_the_function_times_out(module: Any) -> None:
    config = module._mwaa.meta.config
    attempts = config.retries["total_max_attempts"]
    assert attempts * (config.connect_timeout + config.read_timeout) < 30
