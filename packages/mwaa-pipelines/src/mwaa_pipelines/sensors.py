"""The tasks of the transform group's nodes. Each shows the progress of a node of the one dbt process, and retries it.

They are small, because Airflow parses, stores and loads all of them again and again. Cosmos's operator, which runs dbt,
is created only on a worker that runs the node again: for a retry, for a cleared task, or because dbt skipped the node.

Up to Airflow 3.2, a task starts on a worker and then waits in the triggerer. From 3.3 it starts there.
"""

import asyncio
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.triggers.base import StartTriggerArgs
from cosmos.constants import AIRFLOW_VERSION, CONSUMER_WATCHER_DEFAULT_PRIORITY_WEIGHT, WATCHER_TASK_WEIGHT_RULE
from cosmos.dbt.graph import DbtNode
from packaging.version import Version

from mwaa_pipelines.compatibility import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from mwaa_pipelines.node_ids import state_arguments
from mwaa_pipelines.node_task import NodeTask
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.run_outcome import FAILED
from mwaa_pipelines.task_ids import ENDED_STATES, PRODUCER_TASK

# startup.sh put the DAGs folder on the triggerer's path, so the triggerer can import the trigger.
HAS_TRIGGER = "AIRFLOW__DBT__START_IN_TRIGGERER" in os.environ
STARTS_IN_TRIGGERER = HAS_TRIGGER and Version("3.3") <= AIRFLOW_VERSION
_AIRFLOW_ARGUMENTS = frozenset(inspect.signature(BaseOperator.__init__).parameters)
# Less than that of the task that runs dbt.
_PRIORITY = {"priority_weight": CONSUMER_WATCHER_DEFAULT_PRIORITY_WEIGHT, "weight_rule": WATCHER_TASK_WEIGHT_RULE}


class NodeSensor(NodeTask, BaseOperator):
    """Shows the progress of a node and retries it."""

    template_fields = ("model_unique_id", "select")
    start_from_trigger = STARTS_IN_TRIGGERER
    # Whether it watches the tests of the node.
    is_test_sensor = False
    # What it watches. Set when all tasks exist.
    nodes: tuple[DbtNode, ...] = ()
    # Cosmos's operator that runs the node again.
    dbt_operator: ClassVar[Any]
    # The task of the node whose tests this sensor watches; None if it watches the node.
    task_of_model: str | None = None
    # Of `dbt_operator`. Set when all tasks exist.
    exclude, manifest_filepath = None, ""
    # Of the node in this run, from 1. Set when it runs on a worker.
    try_number: int | None = None
    # The node, or the node whose tests are watched.
    model_unique_id = ""
    # Ids of nodes by the selector for them, see `state_arguments`.
    selected_ids: Mapping[str, Sequence[str]] = {}
    # Set while it runs on a worker.
    _running: Any = None

    def __init__(
        self, *, retries: int, select: str = "", extra_context: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        """Create the task.

        Args:
            select: dbt's selector of the node.
            extra_context: what Cosmos knows of the node: the node, or the node whose tests are watched.
            retries: how often the node may run again. Airflow would also retry a task that cannot run, and delay the
                end of the run.
            **arguments: of `dbt_operator` and of Airflow's BaseOperator.
        """
        of_airflow = {name: arguments.pop(name) for name in _AIRFLOW_ARGUMENTS & arguments.keys()}
        if extra_context:
            self.model_unique_id = extra_context["dbt_node_config"]["unique_id"]
        self.select, self.node_retries, self.producer_task_id = select, retries, PRODUCER_TASK
        self.dbt_arguments = arguments
        super().__init__(retries=0, **{**_PRIORITY, **of_airflow})

    @property
    def outcome_key(self) -> str:
        """The key of the outcome of its nodes, see `node_outcomes`, and what people call them."""
        return self.model_unique_id

    @property
    def node_ids(self) -> list[str]:
        """The ids of its nodes."""
        return [node.unique_id for node in self.nodes]

    @property
    def base_cmd(self) -> list[str]:
        """The dbt command that runs the node again."""
        return self.dbt_operator.base_cmd

    @property
    def start_trigger_args(self) -> StartTriggerArgs:
        """How the triggerer starts the task."""
        return StartTriggerArgs(
            trigger_cls="mwaa_pipelines.node_trigger.NodeTrigger",
            trigger_kwargs=self._trigger_arguments(attempt=1),
            next_method=self.resume_on_worker.__name__,
        )

    def _trigger_arguments(self, attempt: int) -> dict[str, Any]:
        return {
            "outcome_key": self.outcome_key,
            "producer_task_id": self.producer_task_id,
            "upstream": sorted(self.upstream_task_ids | {self.task_of_model} - {None}),
            "retries": self.node_retries,
            "retry_delay": self.retry_delay.total_seconds(),
            "attempt": attempt,
        }

    def set_downstream(self, task_or_task_list: Any, *args: Any, **kwargs: Any) -> None:
        """Set downstream tasks, but ignore that Cosmos puts a node's tests downstream of the node.

        Both are watched in parallel, and downstream nodes depend on both. Airflow needs seconds from one task to the
        next, so a chain would fall further and further behind dbt. Tests wait for their node only if dbt did not run
        them.
        """
        task = task_or_task_list
        if getattr(task, "is_test_sensor", False) and task.model_unique_id == self.model_unique_id:
            task.task_of_model = self.task_id
        else:
            super().set_downstream(task_or_task_list, *args, **kwargs)

    def execute(self, context: Any) -> None:
        """Wait for dbt and then end, or run the node. Airflow calls this if the task does not start in the triggerer.

        Raises:
            AirflowException: the node failed, and no retry is left.
            AirflowFailException: the node, or a task that it needs, failed.
            AirflowSkipException: a task that it needs was skipped.
        """
        self._wait(context, attempt=1)

    def _wait(self, context: Any, attempt: int) -> None:
        """Do what the trigger decides. It decides here, and only if it has to wait, the task defers.

        A busy scheduler can see a trigger's event before it sees that the task was deferred, and then treats the task
        as lost. So no trigger may fire immediately.
        """
        # Imported here, because parsing a DAG file does not need it.
        from mwaa_pipelines.node_trigger import NodeTrigger

        trigger = NodeTrigger(**self._trigger_arguments(attempt))
        trigger.task_instance = context["ti"]
        try:
            event = asyncio.run(trigger.event(can_wait=False))
        except TimeoutError:
            timeout = self.execution_timeout if attempt == 1 else None
            if HAS_TRIGGER:
                self.defer(trigger=trigger, method_name=self.resume_on_worker.__name__, timeout=timeout)
            self._defer_until_ended(context, attempt, timeout)
            event = asyncio.run(trigger.event())
        state = getattr(event, "task_instance_state", None)
        if state == "failed":
            raise AirflowFailException(f"{self.outcome_key} failed, or a task that it needs. See above")
        if state == "skipped":
            raise AirflowSkipException(f"a task that {self.outcome_key} needs was skipped")
        if state is None:
            self.resume_on_worker(context, event.payload)

    def _defer_until_ended(self, context: Any, attempt: int, timeout: Any) -> None:
        """Wait for dbt and the upstream tasks with a trigger that every triggerer has."""
        from airflow.providers.standard.triggers.external_task import WorkflowTrigger

        ti, run_id = context["ti"], context["run_id"]
        needed = [self.producer_task_id, *self._trigger_arguments(attempt)["upstream"]]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=needed, run_ids=[run_id]).get(run_id, {})
        if all(states.get(task_id) in ENDED_STATES for task_id in needed):
            return
        self.defer(
            trigger=WorkflowTrigger(
                external_dag_id=ti.dag_id,
                run_ids=[run_id],
                external_task_ids=needed,
                allowed_states=sorted(ENDED_STATES),
                poke_interval=2.0,
            ),
            method_name=self.finish_on_worker.__name__,
            kwargs={"attempt": attempt},
            timeout=timeout,
        )

    def finish_on_worker(self, context: Any, event: dict[str, Any], attempt: int) -> None:
        """End the task, or run the node. dbt and the upstream tasks have ended. See `execute` for the errors."""
        self._wait(context, attempt)

    def resume_on_worker(self, context: Any, event: dict[str, Any]) -> None:
        """Run the node. dbt and the upstream tasks have ended. If it fails, wait and run it again.

        Raises:
            AirflowException: the node failed, and no retry is left.
            AirflowFailException: a node without a task failed, such as a test of a source.
        """
        attempt = event["attempt"]
        self.try_number = (context["ti"].try_number - 1) * (self.node_retries + 1) + attempt
        try:
            self._run_again(context)
        except (AirflowFailException, AirflowSkipException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            if attempt > self.node_retries:
                raise
            if isinstance(error, AirflowTaskTimeout):
                # Airflow does this only if the task ends with the error.
                self.on_kill()
            self.log.error("%s", error)  # noqa: TRY400 - dbt's output above says more than a traceback
        else:
            return
        self._wait(context, attempt + 1)

    def _run_again(self, context: Any) -> None:
        report = context["ti"].xcom_pull(task_ids=self.producer_task_id, key=RESULTS_KEY) or {"results": []}
        failed = {entry["unique_id"]: entry for entry in report["results"] if entry["status"] in FAILED}
        own_errors = [f"{node}: {failed[node]['message']}" for node in self.node_ids if node in failed]
        if own_errors and self.try_number == 1:
            raise AirflowException("\n".join(own_errors))
        # No task retries these, and they may be the reason why dbt did not build this node. Hooks run again.
        retried = {node for task in self._sensors() for node in task.node_ids}
        retried |= {node for node in failed if node.startswith("operation.")}
        if blockers := sorted(set(failed) - retried):
            raise AirflowFailException(f"{self.outcome_key} is not run again, because {', '.join(blockers)} failed")
        chosen = chosen_nodes(context, report)
        is_chosen = chosen is None or not chosen.isdisjoint(self.node_ids)
        if is_chosen and (select := self.selection(context, report)):
            self.run_node(context, select)

    def selection(self, context: Any, report: dict[str, Any]) -> str:
        """Return dbt's selectors of the nodes that must run again; nothing if there are none.

        Args:
            context: Airflow's task context.
            report: the results that the task which runs dbt has pushed.
        """
        return self.select

    def run_node(self, context: Any, select: str) -> None:
        """Run a selection of nodes in a dbt process of its own."""
        self._running = task = self.dbt_task(select)
        task.env = {**(task.env or {}), "AIRFLOW_CTX_TRY_NUMBER": str(self.try_number)}
        task.render_template_fields(context)
        prepare({**context, "task": task})
        # Linux limits one argument to 128 KB, and Cosmos passes all selectors as one.
        for option, selectors in (("select", task.select), ("exclude", task.exclude)):
            if selectors:
                task.dbt_cmd_flags = [*(task.dbt_cmd_flags or []), f"--{option}", *selectors.split()]
        task.select = task.exclude = None
        task.selected_ids = self.selected_ids
        with TemporaryDirectory() as folder:
            # The runner in ECS has a folder of its own.
            if not hasattr(task, "ecs"):
                state = state_arguments(Path(folder), self.selected_ids)
                task.dbt_cmd_flags = [*(task.dbt_cmd_flags or []), *state]
            task.build_and_run_cmd(context, cmd_flags=task.add_cmd_flags())

    def dbt_task(self, select: str) -> Any:
        """Create Cosmos's operator, which belongs to no DAG."""
        of_node = {"select": select, "exclude": self.exclude, "manifest_filepath": self.manifest_filepath}
        task = self.dbt_operator(task_id=self.task_id, **{**self.dbt_arguments, **of_node})
        producer = self.dag.get_task(self.producer_task_id)
        if hasattr(producer, "ecs"):
            # Imported here, because it imports boto3, which takes long at each parse.
            from mwaa_pipelines.ecs_operator import run_in_ecs

            run_in_ecs(task, producer.ecs, producer.release, after=[self.producer_task_id])
        return task

    def on_kill(self) -> None:
        """End dbt. Airflow calls this when the task is ended."""
        if self._running:
            self._running.on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the lineage of the node, if it ran here. Airflow's provider of OpenLineage calls this."""
        return self._running and self._running.get_openlineage_facets_on_complete(task_instance)

    def _sensors(self) -> "list[NodeSensor]":
        return [task for task in self.dag.tasks if isinstance(task, NodeSensor)]


def chosen_nodes(context: Any, report: dict[str, Any]) -> set[str] | None:
    """Return the nodes that the run's parameter `select` chose, or None: all, or dbt must find out again.

    Args:
        context: Airflow's task context.
        report: the results that the task which runs dbt has pushed. Those of an interrupted dbt lack chosen nodes.
    """
    if context["params"]["select"] and report.get("is_complete"):
        return {entry["unique_id"] for entry in report["results"]}
    return None
