"""The sensors of the transform group: each shows how one node of the single dbt process goes, and retries it.

Cosmos 1.15.1's own sensors spend their retries while that dbt process still runs, take what dbt skipped for what
failed, and run every test that touches a model, also those of models that are not built yet. These do not, so that
whatever would pass on a further try ends green. https://github.com/astronomer/astronomer-cosmos/issues/3001
"""

import os
from typing import Any

from airflow.sdk import DAG, TaskGroup
from airflow.triggers.base import StartTriggerArgs
from cosmos.constants import AIRFLOW_VERSION, DbtResourceType
from cosmos.dbt.graph import DbtNode
from cosmos.operators._watcher.state import (
    PRODUCER_TERMINAL_STATES,
    DbtNodeStatus,
    DbtTestStatus,
    is_dbt_node_status_failed,
    is_dbt_node_status_success,
    is_producer_task_terminated,
)
from cosmos.operators._watcher.triggerer import WatcherEventReason
from cosmos.operators.watcher import (
    DbtConsumerWatcherSensor,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtTestWatcherOperator,
)
from packaging.version import Version

from mwaa_pipelines.compatibility import AirflowException, AirflowFailException, AirflowSkipException
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.results import RESULTS_KEY

# Airflow can from 3.3 on. The triggerer can import the trigger only if startup.sh has put the DAGs folder on its path.
STARTS_IN_TRIGGERER = Version("3.3") <= AIRFLOW_VERSION and "AIRFLOW__DBT__START_IN_TRIGGERER" in os.environ


class _Sensor(DbtConsumerWatcherSensor):
    """What the sensors have in common."""

    start_from_trigger = STARTS_IN_TRIGGERER

    @property
    def start_trigger_args(self) -> StartTriggerArgs | None:
        """How the triggerer starts it. A property, because Cosmos says afterwards which task is the producer."""
        # Airflow looks at it while the operator is made, too.
        if not hasattr(self, "model_unique_id"):
            return None
        return StartTriggerArgs(
            trigger_cls="mwaa_pipelines.node_trigger.NodeTrigger",
            trigger_kwargs={
                "model_unique_id": self.model_unique_id,
                "producer_task_id": self.producer_task_id,
                "is_test_sensor": self.is_test_sensor,
            },
            next_method="go_on_in_worker",
        )

    @classmethod
    def of_node(
        cls, *, dag: DAG, task_group: TaskGroup, task_args: dict[str, Any], node: DbtNode, task_id: str, **_: Any
    ) -> "_Sensor":
        """Make the sensor of a node, as Cosmos asks a converter of RenderConfig.node_converters."""
        arguments = {**task_args, **node.operator_kwargs_to_override}
        if node.owner:
            arguments["owner"] = node.owner
        return cls(
            dag=dag,
            task_group=task_group,
            task_id=task_id,
            select=f"fqn:{'.'.join(node.fqn)}",
            extra_context={"dbt_node_config": node.context_dict},
            **arguments,
        )

    def set_downstream(self, task_or_task_list: Any, *args: Any, **kwargs: Any) -> None:
        """Say what follows; but not that the tests of a node follow it, as Cosmos would.

        They are watched side by side, and what follows depends on both: Airflow takes seconds from one task to the
        next, and would run ever further behind dbt. Tests wait for their node only if dbt has not run them.
        """
        if not (
            isinstance(task_or_task_list, TestSensor) and task_or_task_list.model_unique_id == self.model_unique_id
        ):
            super().set_downstream(task_or_task_list, *args, **kwargs)

    def go_on_in_worker(self, context: Any, event: dict[str, Any]) -> None:
        """Go on with what did not end well in the dbt process, or is not part of it."""
        self.execute(context)

    def execute(self, context: Any, **kwargs: Any) -> None:
        """Watch the node; but run it, once the dbt process is over, on a further try and if dbt skipped it.

        A task starts when what it depends on is green: what made dbt skip the node has passed on a further try.
        """
        if self._may_be_skipped(context) or (context["ti"].try_number > 1 and self._dbt_runs(context)):
            self._go_on_after_dbt(context)
        elif not self._not_run(context):
            super().execute(context, **kwargs)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Take the trigger's word for the node's end, unless dbt only skipped it."""
        if self._may_be_skipped(context):
            self._go_on_after_dbt(context)
        elif not (event.get("reason") == WatcherEventReason.PRODUCER_FAILED and self._left_out(context)):
            super().execute_complete(context, event)

    def dbt_is_over(self, context: Any, event: dict[str, Any]) -> None:
        """Go on after the dbt process has ended: done if the node has passed in it, else run it.

        Raises:
            AirflowException: the node failed, and this is the first try.
            AirflowFailException: something without a task of its own failed, such as a test of a source.
        """
        ti = context["ti"]
        if is_dbt_node_status_success(self._get_node_status(ti, context)):
            return
        kept = ti.xcom_pull(task_ids=self.producer_task_id, key=RESULTS_KEY) or {"results": []}
        failed = {entry["unique_id"]: entry for entry in kept["results"] if is_dbt_node_status_failed(entry["status"])}
        own = [f"{node}: {failed[node]['message']}" for node in self._nodes() if node in failed]
        if own and ti.try_number == 1:
            raise AirflowException("\n".join(own))
        # Nothing retries these, and they may be the guards that kept dbt from building this node. A hook runs again.
        retried = {test for of_model in self._tests_per_model().values() for test in of_model}
        retried |= set(self._models().values()) | {node for node in failed if node.startswith("operation.")}
        if guards := sorted(set(failed) - retried):
            raise AirflowFailException(f"{self.model_unique_id} is not run again, because {', '.join(guards)} failed")
        self._fallback_to_non_watcher_run(ti.try_number, context)

    def _fallback_to_non_watcher_run(self, try_number: int, context: Any) -> bool:
        if not self._left_out(context):
            prepare(context)
            self.build_and_run_cmd(context, cmd_flags=self.add_cmd_flags())
        return True

    def _go_on_after_dbt(self, context: Any) -> None:
        if self._dbt_runs(context):
            self._wait_for([self.producer_task_id], context)
        self.dbt_is_over(context, {})

    def _wait_for(self, task_ids: list[str], context: Any) -> None:
        """Go on with `dbt_is_over` once these tasks have ended, well or not."""
        from airflow.providers.standard.triggers.external_task import WorkflowTrigger

        self.defer(
            trigger=WorkflowTrigger(
                external_dag_id=self.dag_id,
                run_ids=[context["run_id"]],
                external_task_ids=task_ids,
                allowed_states=[str(state.value) for state in PRODUCER_TERMINAL_STATES],
                poke_interval=self.poke_interval,
            ),
            method_name=self.dbt_is_over.__name__,
            timeout=self.execution_timeout,
        )

    def _dbt_runs(self, context: Any) -> bool:
        return not is_producer_task_terminated(self._get_producer_task_status(context))

    def _may_be_skipped(self, context: Any) -> bool:
        # dbt knows no status `failed`: it is what Cosmos makes of `skipped`.
        return self._get_node_status(context["ti"], context) == DbtNodeStatus.FAILED

    def _not_run(self, context: Any) -> bool:
        """Whether dbt is over, well, and had no need to run the node: the run's parameter `select` left it out.

        Cosmos would defer to a trigger that fires at once. A busy scheduler may hear of that before it hears that the
        task was deferred, and take the task for lost.
        """
        if context["ti"].try_number > 1 or self._get_node_status(context["ti"], context) is not None:
            return False
        return self._get_producer_task_status(context) == "success"

    def _left_out(self, context: Any) -> bool:
        """Whether the run's parameter `select` left the node out, and dbt got as far as to know."""
        kept = context["params"]["select"] and context["ti"].xcom_pull(task_ids=self.producer_task_id, key=RESULTS_KEY)
        reported = {entry["unique_id"] for entry in kept["results"]} if kept else set()
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
    """Shows and retries a model."""


class SeedSensor(_Sensor, DbtSeedWatcherOperator):
    """Shows and retries a seed."""


class SnapshotSensor(_Sensor, DbtSnapshotWatcherOperator):
    """Shows and retries a snapshot."""


class TestSensor(_Sensor, DbtTestWatcherOperator):
    """Shows and retries the tests of a model, a seed or a snapshot."""

    __test__ = False

    def _nodes(self) -> list[str]:
        return self._tests_per_model()[self.model_unique_id]

    def _may_be_skipped(self, context: Any) -> bool:
        # Cosmos makes one word of all the tests; which of them failed is known when dbt is over.
        return self._get_node_status(context["ti"], context) == DbtTestStatus.FAIL

    def _wait_for(self, task_ids: list[str], context: Any) -> None:
        super()._wait_for([*task_ids, self._model_task_id()], context)

    def _fallback_to_non_watcher_run(self, try_number: int, context: Any) -> bool:
        states, task_id = self._states(context), self._model_task_id()
        state = states.get(task_id)
        if state not in PRODUCER_TERMINAL_STATES:
            self._wait_for([], context)
        if state == "skipped":
            raise AirflowSkipException(f"{task_id} was skipped")
        if state != "success":
            # Not skipped: whoever clears what failed wants the tests, too.
            raise AirflowFailException(f"not run, because {task_id} failed")
        # A test that reads several models belongs to each of them. The last of them to be built runs it.
        built = {model for task_id, model in self._models().items() if states.get(task_id) == "success"}
        tests = self._tests_per_model()
        ready = [
            test.split(".")[2]
            for test in tests[self.model_unique_id]
            if all(model in built for model, of_model in tests.items() if test in of_model)
        ]
        if not ready:
            return True
        self.select = " ".join(ready)
        return super()._fallback_to_non_watcher_run(try_number, context)

    def _model_task_id(self) -> str:
        return next(task_id for task_id, model in self._models().items() if model == self.model_unique_id)

    def _states(self, context: Any) -> dict[str, str]:
        ti, run_id = context["ti"], context["run_id"]
        return ti.get_task_states(dag_id=ti.dag_id, task_ids=list(self._models()), run_ids=[run_id]).get(run_id, {})


NODE_CONVERTERS = {
    DbtResourceType.MODEL: RunSensor.of_node,
    DbtResourceType.SEED: SeedSensor.of_node,
    DbtResourceType.SNAPSHOT: SnapshotSensor.of_node,
    DbtResourceType.TEST: TestSensor.of_node,
}
