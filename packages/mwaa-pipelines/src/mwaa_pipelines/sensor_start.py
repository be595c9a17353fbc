"""Where the sensors of a DAG start, so that the triggerer's memory is enough.

Airflow 3.3 sends the triggerer the whole DAG for each trigger that it starts. Each task of the DAG takes 1 KB of that,
and 3.4 KB once it is decoded. (Measured with Airflow 3.3.1, 2026-11.)
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter
from typing import Any

from airflow.configuration import conf
from airflow.sdk import BaseOperator

from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER, NodeSensor

# Triggers that start together, multiplied by the tasks of the DAG. They take 300 MB.
_MOST_COPIES = 60_000

log = logging.getLogger(__name__)


def choose_start(tasks: Collection[Any]) -> None:
    """Choose where the sensors of a DAG start, so that the triggerer's memory is enough.

    In a small DAG, all start in the triggerer with the run, whatever the state of their upstream tasks. In a larger
    one, each starts there after its upstream tasks, and in a very large one it starts on a worker.
    """
    sensors = {task.task_id: task for task in tasks if isinstance(task, NodeSensor)}
    # The triggerer runs a limited number of triggers, and they are not only ours.
    most = min(_MOST_COPIES // len(tasks), conf.getint("triggerer", "capacity", fallback=1000) // 2)
    if not STARTS_IN_TRIGGERER or not sensors:
        return
    if len(sensors) <= most:
        for sensor in sensors.values():
            sensor.trigger_rule = "always"
            if sensor.task_of_model:
                # Costs no time here, and lets people clear a node with its tests.
                BaseOperator.set_downstream(sensors[sensor.task_of_model], sensor)
    elif (width := _widest_layer({task_id: sensor.upstream_task_ids for task_id, sensor in sensors.items()})) > most:
        log.info(
            "The tasks of %s nodes start on workers: %s of them can start together, and the memory of the triggerer "
            "is enough for %s",
            len(sensors),
            width,
            most,
        )
        for sensor in sensors.values():
            sensor.start_from_trigger = False


def _widest_layer(upstream: Mapping[str, Collection[str]]) -> int:
    """Return how many tasks, at most, are equally many steps from the first ones."""
    layers: dict[str, int] = {}
    for task_id in TopologicalSorter(upstream).static_order():
        # Others than sensors start before all of them.
        layers[task_id] = max((layers[other] + 1 for other in upstream.get(task_id, ())), default=0)
    return max(Counter(layers[task_id] for task_id in upstream).values())
