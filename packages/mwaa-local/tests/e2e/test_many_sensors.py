"""Hundreds of sensors wait in the triggerer, and survive its death."""

from collections import Counter

import pytest

from mwaa_local.testing.scene import DAG, running, wait

# Time for the stand-ins and a run of 200 nodes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAMES = [f"wide_{number}" for number in range(100)]
MODEL = "{{ config(materialized='table') }} select 1 as id from {{ source('landing', 'gate') }}"
PROPERTIES = "sources: [{name: landing, tables: [{name: gate}]}]\nmodels:\n"


def test_two_hundred_waiting_sensors_survive_their_triggerer(tmp_path_factory: pytest.TempPathFactory) -> None:
    models = dict.fromkeys((f"{name}.sql" for name in NAMES), MODEL)
    tests = (f"  - {{name: {name}, columns: [{{name: id, data_tests: [not_null]}}]}}\n" for name in NAMES)
    models["properties.yml"] = PROPERTIES + "".join(tests)
    with running(tmp_path_factory.mktemp("wide"), models, {}) as scene:
        scene.query("create table landing.gate as select 1 as key", "awsuser")
        # No model is built before the triggerer is killed.
        with scene.held_gate():
            run_id = scene.client.trigger(DAG)
            wait(lambda: Counter(scene.states(run_id).values())["deferred"] == 2 * len(NAMES), 240)
            scene.component("triggerer").kill()
        assert scene.ended(run_id, 600) == "success"
        states = scene.states(run_id)
        ended = {states[f"transform_data.{name}.{part}"] for name in NAMES for part in ("run", "test")}
        assert ended == {"success"}
        query = f"select name from analytics.audit_table where airflow_run_id = '{run_id}'"
        times = Counter(name for (name,) in scene.query(query))
        assert {times[node] for name in NAMES for node in (name, f"not_null_{name}_id")} == {1}
