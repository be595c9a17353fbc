"""The sensors of the transform group. Each one shows the progress of a node of the single dbt process and retries it.

The sensors of Cosmos 1.15.1 use up their retries while the dbt process still runs, treat skipped nodes as failed, and
run every test that reads a model, even if the test also reads models that are not built yet. These sensors do not, so a
node that succeeds on a retry ends as success. https://github.com/astronomer/astronomer-cosmos/issues/3001
"""

import os
from collections.abc import Iterable
from typing import Any, ClassVar

from airflow.configuration import conf
from airflow.triggers.base import StartTriggerArgs
from cosmos.constants import AIRFLOW_VERSION, DbtResourceType
from cosmos.operators.watcher import (
    DbtConsumerWatcherSensor,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtTestWatcherOperator,
)
from packaging.version import Version

from mwaa_pipelines.compatibility import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from mwaa_pipelines.cosmos_internals import (
    SensorInternals,
    is_dbt_node_status_failed,
    is_dbt_node_status_success,
)
from mwaa_pipelines.node_task import FUNCTION, NodeTask
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.task_ids import ENDED_STATES

# Each waiting sensor asks Airflow's API every two seconds, and Airflow sends the triggerer the whole DAG for each one.
_MOST_AT_ONCE = 100
# Airflow supports it from 3.3. The triggerer can import the trigger only if startup.sh put the DAGs folder on its path.
STARTS_IN_TRIGGERER = Version("3.3") <= AIRFLOW_VERSION and "AIRFLOW__DBT__START_IN_TRIGGERER" in os.environ


class _Sensor(NodeTask, SensorInternals, DbtConsumerWatcherSensor):
    """Common behavior of the sensors."""

    start_from_trigger = STARTS_IN_TRIGGERER
    # The task of the node whose tests this sensor watches; None if it watches the node.
    task_of_model: str | None = None
    # How often the node may run again. Airflow would also retry a task that cannot run, and delay the end of the run.
    node_retries = 0
    # Of the node in this run, from 1. Set when it runs on a worker.
    try_number: int | None = None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if STARTS_IN_TRIGGERER:
            self.node_retries, self.retries = self.retries, 0

    @property
    def start_trigger_args(self) -> StartTriggerArgs | None:
        """How the triggerer starts the task. A property, because Cosmos sets the producer after creating the sensor."""
        # Airflow reads it while the operator is being created.
        if not hasattr(self, "model_unique_id"):
            return None
        return StartTriggerArgs(
            trigger_cls="mwaa_pipelines.node_trigger.NodeTrigger",
            trigger_kwargs=self._trigger_arguments(attempt=1),
            next_method=self.resume_on_worker.__name__,
        )

    def _trigger_arguments(self, attempt: int) -> dict[str, Any]:
        return {
            "model_unique_id": self.model_unique_id,
            "producer_task_id": self.producer_task_id,
            "is_test_sensor": self.is_test_sensor,
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
        if isinstance(task_or_task_list, TestSensor) and task_or_task_list.model_unique_id == self.model_unique_id:
            task_or_task_list.task_of_model = self.task_id
        else:
            super().set_downstream(task_or_task_list, *args, **kwargs)

    def resume_on_worker(self, context: Any, event: dict[str, Any]) -> None:
        """Run the node. dbt and the upstream tasks have ended. If it fails, wait in the triggerer and run it again.

        Raises:
            AirflowException: the node failed, and no retry is left.
            AirflowFailException: a node without a task failed, such as a test of a source.
        """
        attempt = event["attempt"]
        self.try_number = (context["ti"].try_number - 1) * (self.node_retries + 1) + attempt
        self.env = {**(self.env or {}), "AIRFLOW_CTX_TRY_NUMBER": str(self.try_number)}
        try:
            self._run_again(context, is_retry=self.try_number > 1)
        except (AirflowFailException, AirflowSkipException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            if attempt > self.node_retries:
                raise
            self.log.error("%s", error)  # noqa: TRY400 - dbt's output above says more than a traceback
            # Imported here, because Airflow 3.0 lacks what the module needs.
            from mwaa_pipelines.node_trigger import NodeTrigger

            self.defer(
                trigger=NodeTrigger(**self._trigger_arguments(attempt + 1)), method_name=self.resume_on_worker.__name__
            )

    def execute(self, context: Any, **kwargs: Any) -> None:
        """Watch the node. On a retry, or if dbt skipped the node, run it after the dbt process has ended.

        A task starts when its upstream tasks succeeded, so the failure that made dbt skip the node was retried.
        """
        if self._failed_or_skipped(context) or (context["ti"].try_number > 1 and self._dbt_is_running(context)):
            self._continue_after_dbt(context)
        elif not self._deselected_and_succeeded(context):
            super().execute(context, **kwargs)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Trust the trigger's result unless dbt skipped the node."""
        if self._failed_or_skipped(context):
            self._continue_after_dbt(context)
        elif not (self.producer_failed(event) and self._deselected(context)):
            super().execute_complete(context, event)

    def on_dbt_finished(self, context: Any, event: dict[str, Any]) -> None:
        """End the task if the node succeeded in the dbt process; otherwise run the node.

        Raises:
            AirflowException: the node failed, and this is the first try.
            AirflowFailException: a node without a task failed, such as a test of a source.
        """
        if not is_dbt_node_status_success(self.node_status(context)):
            self._run_again(context, is_retry=context["ti"].try_number > 1)

    def _run_again(self, context: Any, is_retry: bool) -> None:
        ti = context["ti"]
        report = ti.xcom_pull(task_ids=self.producer_task_id, key=RESULTS_KEY) or {"results": []}
        failed = {
            entry["unique_id"]: entry for entry in report["results"] if is_dbt_node_status_failed(entry["status"])
        }
        own_errors = [f"{node}: {failed[node]['message']}" for node in self._nodes() if node in failed]
        if own_errors and not is_retry:
            raise AirflowException("\n".join(own_errors))
        # No task retries these, and they may be the reason why dbt did not build this node. Hooks run again.
        retried = {test for of_model in self._tests_per_model().values() for test in of_model}
        retried |= set(self._models().values()) | {node for node in failed if node.startswith("operation.")}
        if blockers := sorted(set(failed) - retried):
            raise AirflowFailException(f"{self.model_unique_id} is not run again, because {', '.join(blockers)} failed")
        self.run_node(context)

    def run_node(self, context: Any) -> None:
        """Run the node in its own dbt process, unless the run's parameter `select` left it out."""
        if not self._deselected(context):
            prepare(context)
            self.build_and_run_cmd(context, cmd_flags=self.add_cmd_flags())

    def _continue_after_dbt(self, context: Any) -> None:
        if self._dbt_is_running(context):
            self._wait_for([self.producer_task_id], context)
        self.on_dbt_finished(context, {})

    def _wait_for(self, task_ids: list[str], context: Any) -> None:
        """Defer until these tasks have ended, whatever their result, and then call `on_dbt_finished`."""
        from airflow.providers.standard.triggers.external_task import WorkflowTrigger

        self.defer(
            trigger=WorkflowTrigger(
                external_dag_id=self.dag_id,
                run_ids=[context["run_id"]],
                external_task_ids=task_ids,
                allowed_states=sorted(ENDED_STATES),
                poke_interval=self.poke_interval,
            ),
            method_name=self.on_dbt_finished.__name__,
            timeout=self.execution_timeout,
        )

    def _dbt_is_running(self, context: Any) -> bool:
        return not self.producer_ended(context)

    def _failed_or_skipped(self, context: Any) -> bool:
        return self.node_failed_or_was_skipped(context)

    def _deselected_and_succeeded(self, context: Any) -> bool:
        """Whether dbt succeeded without running the node, because the run's parameter `select` left it out.

        Cosmos would defer to a trigger that fires immediately. A busy scheduler can see that event before it sees that
        the task was deferred, and then treats the task as lost.
        """
        if context["ti"].try_number > 1 or self.node_status(context) is not None:
            return False
        return self.producer_state(context) == "success"

    def _deselected(self, context: Any) -> bool:
        """Whether dbt reported results without the node, because the run's parameter `select` left it out."""
        report = context["params"]["select"] and context["ti"].xcom_pull(
            task_ids=self.producer_task_id, key=RESULTS_KEY
        )
        reported = {entry["unique_id"] for entry in report["results"]} if report else set()
        return bool(reported) and not reported & set(self._nodes())

    def _nodes(self) -> list[str]:
        return [self.model_unique_id]

    def _tests_per_model(self) -> dict[str, list[str]]:
        return self.dag.get_task(self.producer_task_id).tests_per_model

    def _models(self) -> dict[str, str]:
        return {
            task.task_id: task.model_unique_id
            for task in self.dag.tasks
            if isinstance(task, _Sensor) and task.producer_task_id == self.producer_task_id and not task.is_test_sensor
        }


class RunSensor(_Sensor, DbtRunWatcherOperator):
    """Shows the progress of a model and retries it."""


class SeedSensor(_Sensor, DbtSeedWatcherOperator):
    """Shows the progress of a seed and retries it."""


class SnapshotSensor(_Sensor, DbtSnapshotWatcherOperator):
    """Shows the progress of a snapshot and retries it."""


class FunctionSensor(_Sensor):
    """Shows the progress of a function and retries it."""

    base_cmd: ClassVar[list[str]] = ["build"]


class TestSensor(_Sensor, DbtTestWatcherOperator):
    """Shows the progress of the tests of a model, seed or snapshot, and retries them."""

    __test__ = False

    # dbt's selector of each test, by its id. Set when the tests' own nodes are known.
    test_selectors: dict[str, str]

    def _nodes(self) -> list[str]:
        return self._tests_per_model()[self.model_unique_id]

    def _failed_or_skipped(self, context: Any) -> bool:
        # Cosmos reports one status for all tests of a node. Which of them failed is known when dbt has ended.
        return self.a_test_failed(context)

    def _wait_for(self, task_ids: list[str], context: Any) -> None:
        super()._wait_for([*task_ids, self._model_task_id()], context)

    def run_node(self, context: Any) -> None:
        """Run the tests whose models are all built, after the node's own task has succeeded."""
        states, task_id = self._states(context), self._model_task_id()
        state = states.get(task_id)
        if state not in ENDED_STATES:
            self._wait_for([], context)
        if state == "skipped":
            raise AirflowSkipException(f"{task_id} was skipped")
        if state != "success":
            # Failed, not skipped, so that clearing the failed tasks of a run also runs the tests.
            raise AirflowFailException(f"not run, because {task_id} failed")
        # A test that reads several models belongs to each of them. The model that is built last runs it.
        built = {model for task_id, model in self._models().items() if states.get(task_id) == "success"}
        tests = self._tests_per_model()
        ready = [
            self.test_selectors[test]
            for test in tests[self.model_unique_id]
            if all(model in built for model, of_model in tests.items() if test in of_model)
        ]
        if ready:
            self.select = " ".join(ready)
            super().run_node(context)

    def _model_task_id(self) -> str:
        return next(task_id for task_id, model in self._models().items() if model == self.model_unique_id)

    def _states(self, context: Any) -> dict[str, str]:
        ti, run_id = context["ti"], context["run_id"]
        return ti.get_task_states(dag_id=ti.dag_id, task_ids=list(self._models()), run_ids=[run_id]).get(run_id, {})


def start_at_once(tasks: Iterable[Any]) -> None:
    """Let the sensors start in the triggerer when the run starts, whatever the state of their upstream tasks.

    In a larger group, each sensor starts after its upstream tasks.
    """
    watching = [task for task in tasks if isinstance(task, _Sensor)]
    # The triggerer runs a limited number of triggers, and they are not only ours.
    most = min(_MOST_AT_ONCE, conf.getint("triggerer", "capacity", fallback=1000) // 2)
    if STARTS_IN_TRIGGERER and len(watching) <= most:
        for task in watching:
            task.trigger_rule = "always"


NODE_CONVERTERS = {
    DbtResourceType.MODEL: RunSensor.of_node,
    DbtResourceType.SEED: SeedSensor.of_node,
    DbtResourceType.SNAPSHOT: SnapshotSensor.of_node,
    FUNCTION: FunctionSensor.of_node,
    DbtResourceType.TEST: TestSensor.of_node,
}
