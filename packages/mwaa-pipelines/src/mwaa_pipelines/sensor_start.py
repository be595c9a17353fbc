"""When the sensors of a DAG start, so that the triggerer's memory is enough.

Airflow 3.3 sends the triggerer the whole DAG for each trigger that it starts. Each task of the DAG takes 1 KB of that,
and 3.4 KB once it is decoded, until the trigger runs. (Measured with Airflow 3.3.1, 2026-11.)
"""

from collections.abc import Collection, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import batched, pairwise
from typing import Any

from airflow.configuration import conf
from airflow.sdk import BaseOperator, TaskGroup
from airflow.triggers.base import StartTriggerArgs

from mwaa_pipelines.node_outcomes import outcome_key
from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER, NodeSensor

# Triggers that start together, multiplied by the tasks of the DAG. They take 300 MB.
_MOST_COPIES = 60_000


class WaveSensor(BaseOperator):
    """Ends when dbt has reported the nodes of a wave, or has ended. The sensors of the next wave start then."""

    start_from_trigger = True

    def __init__(self, *, wave: Collection[NodeSensor], **arguments: Any) -> None:
        """Create the task.

        Args:
            wave: the sensors whose nodes dbt must have reported.
            **arguments: of BaseOperator.
        """
        keys = sorted(outcome_key(sensor.model_unique_id, sensor.is_test_sensor) for sensor in wave)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="mwaa_pipelines.node_trigger.WaveTrigger", trigger_kwargs={"outcome_keys": keys}, next_method=""
        )
        super().__init__(**arguments)


def choose_start(group: TaskGroup, tasks: Collection[Any]) -> None:
    """Choose when the sensors start in the triggerer.

    In most DAGs, all start with the run, whatever the state of their upstream tasks. In a very large one, they start in
    waves: each after its upstream tasks, and after dbt has reported the nodes of the wave before.

    Args:
        group: of the sensors.
        tasks: of the DAG.
    """
    sensors = {task.task_id: task for task in tasks if isinstance(task, NodeSensor)}
    if not STARTS_IN_TRIGGERER or not sensors:
        return
    # The triggerer runs a limited number of triggers, and they are not only ours.
    most = max(1, min(_MOST_COPIES // len(tasks), conf.getint("triggerer", "capacity", fallback=1000) // 2))
    if len(sensors) <= most:
        for sensor in sensors.values():
            sensor.trigger_rule = "always"
            if sensor.task_of_model:
                # Costs no time here, and lets people clear a node with its tests.
                BaseOperator.set_downstream(sensors[sensor.task_of_model], sensor)
        return
    _start_in_waves(group, list(batched(_in_order_of_dbt(sensors), most)))


def _in_order_of_dbt(sensors: Mapping[str, NodeSensor]) -> list[NodeSensor]:
    """Return the sensors in the order in which `dbt build` runs their nodes: by layer, its tests last, then by name."""
    sorter = TopologicalSorter(
        {task_id: sensor.upstream_task_ids & sensors.keys() for task_id, sensor in sensors.items()}
    )
    in_order: list[NodeSensor] = []
    sorter.prepare()
    while ready := sorter.get_ready():
        layer = [sensors[task_id] for task_id in ready]
        in_order += sorted(layer, key=lambda sensor: (sensor.is_test_sensor, sensor.model_unique_id))
        sorter.done(*ready)
    return in_order


def _start_in_waves(group: TaskGroup, waves: Sequence[Collection[NodeSensor]]) -> None:
    before = None
    for number, (wave, following) in enumerate(pairwise(waves), start=1):
        reported = WaveSensor(task_id=f"wave_{number}", wave=wave, task_group=group, retries=2)
        if before:
            before.set_downstream(reported)
        for sensor in following:
            sensor.set_upstream(reported)
        before = reported
