"""The id of a file's run: the same for the same file, another for any other, and one that Airflow takes."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[3] / "lambda" / "start_pipeline.py"
# Airflow's option scheduler.allowed_run_id_pattern, and the length of its column.
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
def test_every_file_has_an_id_of_its_own_that_airflow_takes(
    module: Any, one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    run_id = module.run_id_of(*one)
    assert ALLOWED.fullmatch(run_id)
    assert len(run_id) <= CHARACTERS
    assert run_id == module.run_id_of(*one)
    assert (run_id == module.run_id_of(*other)) == (one == other)


def test_an_id_can_be_read(module: Any) -> None:
    run_id = module.run_id_of("flights-landing", "flights/2013/01 Jan.csv.gz", "v1")
    assert re.fullmatch(r"landing-flights-2013-01-Jan-csv-gz-[0-9a-f]{16}", run_id)
