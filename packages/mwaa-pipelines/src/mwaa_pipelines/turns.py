"""Pipelines of one dbt project, database, schema and login take turns: their runs never build the same nodes at once.

The first task of such a DAG waits for its turn. The database has no lock that lasts as long as a run, and a pool of
Airflow counts tasks, of which a run needs several at once. So the state of this task is the lock. A pipeline is

    waiting   its run is running, and this task waits for its next look
    building  its run is running, and this task is looking or has succeeded

A pipeline starts to build when no other one is building. Airflow stores that a task is running before the task looks.
So at least one of two that look at once sees that the other one is looking, and goes back to waiting. If both do, they
look again after different intervals.
"""

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseSensorOperator

from mwaa_pipelines.task_ids import TURN_TASK

SECONDS = 20
_WAITING = ["up_for_reschedule", "up_for_retry", "scheduled", "queued"]

log = logging.getLogger(__name__)


class TurnSensor(BaseSensorOperator):
    """Waits until no other pipeline builds in the schema. It occupies no worker while it waits.

    Args:
        own: dag_id of this pipeline.
        turns: dag_ids of the pipelines that share the schema, this one included.
    """

    def __init__(self, *, own: str, turns: Sequence[str], **arguments: Any) -> None:
        seconds = SECONDS * (1 + turns.index(own) / 2)
        super().__init__(mode="reschedule", poke_interval=seconds, **arguments)
        self.others = [name for name in turns if name != own]

    def poke(self, context: Any) -> bool:
        """Return whether it is this run's turn, and log which pipelines it waits for."""
        building = [name for name in self.others if _is_building(context["ti"], name)]
        if building:
            verb = "builds" if len(building) == 1 else "build"
            log.info("Waiting for %s, which %s in the same schema", " and ".join(building), verb)
        return not building


def _is_building(ti: Any, dag_id: str) -> bool:
    # In this order: a run that starts to look in between counts as building.
    runs = ti.get_dr_count(dag_id=dag_id, states=["running"])
    return runs > 0 and runs > ti.get_ti_count(dag_id=dag_id, task_ids=[TURN_TASK], states=_WAITING)
