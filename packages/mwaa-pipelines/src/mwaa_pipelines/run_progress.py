"""What a run has reached, for the triggers of its sensors. They share one reader, which asks Airflow every second.

The triggerer loads this module when it starts, so a change here needs an update of the MWAA environment.
"""

import asyncio
import logging
import time
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom
from asgiref.sync import sync_to_async

from mwaa_pipelines.node_outcomes import PER_XCOM, xcom_key
from mwaa_pipelines.task_ids import ENDED_STATES

_SECONDS, _SECONDS_BEFORE_DBT = 1.0, 2.0
# After an answer that took a second.
_PAUSE_PER_SECOND = 1.0

log = logging.getLogger(__name__)


class RunProgress:
    """The states of a run's tasks, and the outcomes that its dbt process has reported.

    Attributes:
        states: the state of each task, by task_id. A task without a state has not begun.
        outcomes: by key, see `node_outcomes`. They are complete once the task that runs dbt has ended.
    """

    _runs: ClassVar[WeakValueDictionary[tuple[str, str, str], Self]] = WeakValueDictionary()

    def __init__(self, ti: Any, producer_task_id: str) -> None:
        self._ti, self._producer = ti, producer_task_id
        self.states: dict[str, str | None] = {}
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._number = 0
        self._decided: dict[str, str] = {}
        self._next_look, self._lock = 0.0, asyncio.Lock()

    @classmethod
    def of(cls, ti: Any, producer_task_id: str) -> Self:
        """Return the progress of the run that a task instance belongs to. Drop it to stop reading.

        Args:
            ti: the task instance of a trigger.
            producer_task_id: the task that runs dbt.
        """
        key = (ti.dag_id, ti.run_id, producer_task_id)
        return cls._runs.setdefault(key, cls(ti, producer_task_id))

    @property
    def producer_state(self) -> str | None:
        """The state of the task that runs dbt."""
        return self.states.get(self._producer)

    @property
    def dbt_ended(self) -> bool:
        """Whether the task that runs dbt has ended."""
        return self.producer_state in ENDED_STATES

    def end_of(self, task_id: str) -> str | None:
        """Return the state that a task has ended with, or will end with; None if that is not known yet."""
        state = self.states.get(task_id)
        return state if state in ENDED_STATES else self._decided.get(task_id)

    def decide(self, task_id: str, state: str | None) -> None:
        """Tell the triggers of this run how a task will end. Airflow needs up to two seconds to say so."""
        self._decided.pop(task_id, None)
        if state:
            self._decided[task_id] = state

    async def look(self) -> None:
        """Ask Airflow, unless that was done a moment ago. An error is logged, and changes nothing."""
        async with self._lock:
            if time.monotonic() < self._next_look:
                return
            started = time.monotonic()
            try:
                await self._read()
            except AirflowRuntimeError as error:
                log.warning("Airflow's database did not answer; trying again: %s", error)
            waits = self.producer_state not in ("running", "deferred") and not self.dbt_ended
            ended = time.monotonic()
            # The answer about thousands of tasks takes Airflow long.
            pause = _PAUSE_PER_SECOND * (ended - started)
            self._next_look = ended + max(pause, _SECONDS_BEFORE_DBT if waits else _SECONDS)

    async def _read(self) -> None:
        before, ti = self.producer_state, self._ti
        # Before the outcomes, because these are complete once dbt has ended.
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(dag_id=ti.dag_id, run_ids=[ti.run_id])
        self.states = states.get(ti.run_id, {})
        self._decided = {
            task: state for task, state in self._decided.items() if self.states.get(task) not in ENDED_STATES
        }
        # A task that starts again has no XComs of its earlier try.
        if self.producer_state != before:
            self._number = 0
            self.outcomes = {}
        while chunk := await self._chunk():
            self.outcomes |= chunk
            if len(chunk) < PER_XCOM:
                break
            self._number += 1

    async def _chunk(self) -> dict[str, dict[str, Any]] | None:
        ti, key = self._ti, xcom_key(self._number)
        arguments = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": self._producer, "map_index": -1}
        return await sync_to_async(XCom.get_one)(key=key, **arguments)
