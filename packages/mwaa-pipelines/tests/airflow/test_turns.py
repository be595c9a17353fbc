"""Pipelines that share a schema: the first task waits until no other one builds."""

import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import greenlet
import pytest
from conftest import DagBag, entries
from test_pipelines import bag

from mwaa_pipelines.turns import TurnSensor

NAMES = ("hourly", "nightly", "weekly")


class Pipelines:
    """Pipelines whose runs advance by one step at a time. A step ends before each answer of Airflow."""

    def __init__(self) -> None:
        self.states: dict[str, str | None] = {}
        self.built: Counter[str] = Counter()
        self.most_at_once = 0
        self.processes = {name: greenlet.greenlet(lambda name=name: self.runs(name)) for name in NAMES}

    def runs(self, name: str) -> None:
        """Three runs: each looks until it is its turn, builds, and ends. A running run has a state."""
        sensor = TurnSensor(task_id="wait_for_turn", own=name, turns=NAMES)
        for _ in range(3):
            for state in (None, "scheduled", "queued"):
                self.enter(name, state)
            self.enter(name, "running")
            while not sensor.poke({"ti": Answers(self)}):
                self.enter(name, "up_for_reschedule")
                self.enter(name, "queued")
                self.enter(name, "running")
            # The worker knows that it is its turn, and Airflow does not know it yet.
            self.built[name] += 1
            self.most_at_once = max(self.most_at_once, self.building())
            self.enter(name, "running, and building")
            self.enter(name, "success, and building")
            del self.states[name]
            self.pause()

    def building(self) -> int:
        return 1 + sum("building" in str(state) for state in self.states.values())

    def enter(self, name: str, state: str | None) -> None:
        self.states[name] = state
        self.pause()

    @staticmethod
    def pause() -> None:
        greenlet.getcurrent().parent.switch()


class Answers:
    """Airflow's answers to a task."""

    def __init__(self, pipelines: Pipelines) -> None:
        self.pipelines = pipelines

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert states == ["running"]
        self.pipelines.pause()
        return int(dag_id in self.pipelines.states)

    def get_ti_count(self, dag_id: str, task_ids: list[str], states: list[str]) -> int:
        assert task_ids == ["wait_for_turn"]
        self.pipelines.pause()
        return int(self.pipelines.states.get(dag_id) in states)


def test_runs_take_turns_in_any_order_of_events() -> None:
    for seed in range(300):
        pipelines, chance = Pipelines(), random.Random(seed)  # noqa: S311 - no secret
        for _ in range(2000):
            alive = [name for name in NAMES if not pipelines.processes[name].dead]
            if not alive:
                break
            pipelines.processes[chance.choice(alive)].switch()
        assert pipelines.built == dict.fromkeys(NAMES, 3), f"seed {seed}: {pipelines.states}"
        assert pipelines.most_at_once == 1, f"seed {seed}"


def test_waiting_run_names_the_others(caplog: pytest.LogCaptureFixture) -> None:
    pipelines = Pipelines()
    pipelines.states = {"hourly": "success", "weekly": "success"}
    pipelines.pause = lambda: None  # type: ignore[method-assign]
    sensor = TurnSensor(task_id="wait_for_turn", own="nightly", turns=NAMES)
    with caplog.at_level(logging.INFO):
        assert not sensor.poke({"ti": Answers(pipelines)})
    assert "Waiting for hourly and weekly, which build in the same schema" in caplog.text


def _shared(tmp_path: Path, own_task: str = "") -> dict[str, Any]:
    text = entries("one", "two", "three")
    for name in ("one", "two"):
        text = text.replace(f"redshift_connection_id: redshift_{name}", "redshift_connection_id: shared")
    bag(tmp_path, text)
    path = tmp_path / "pipelines.py"
    path.write_text(path.read_text() + own_task)
    dag_bag = DagBag(str(tmp_path))
    assert dag_bag.import_errors == {}
    return dag_bag.dags


def test_every_task_of_a_shared_schema_waits(tmp_path: Path) -> None:
    dags = _shared(tmp_path, '        EmptyOperator(task_id="of_the_team") >> transform_data\n')
    for name in ("one", "two"):
        (root,) = dags[name].roots
        assert root.task_id == "wait_for_turn"
        assert {"audit_dbt_task.audit_table_model_build", "of_the_team"} <= root.downstream_task_ids
    one, two = (dags[name].get_task("wait_for_turn") for name in ("one", "two"))
    assert (one.others, two.others) == (["two"], ["one"])
    assert one.poke_interval != two.poke_interval
    assert "wait_for_turn" not in dags["three"].task_dict
