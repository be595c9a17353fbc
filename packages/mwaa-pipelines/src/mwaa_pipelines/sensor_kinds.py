"""The kinds of sensors, and how a task group gets them: one for each node and its tests, or one for each folder."""

from collections.abc import Callable, Iterable
from typing import Any

from airflow.sdk import DAG, BaseOperator, TaskGroup
from cosmos.constants import DbtResourceType
from cosmos.dbt.graph import DbtNode
from cosmos.operators.local import (
    DbtBuildLocalOperator,
    DbtRunLocalOperator,
    DbtSeedLocalOperator,
    DbtSnapshotLocalOperator,
    DbtTestLocalOperator,
)

from mwaa_pipelines.folders import Folder
from mwaa_pipelines.node_ids import CHOSEN, LEFT_OUT
from mwaa_pipelines.node_outcomes import SUCCEEDED
from mwaa_pipelines.node_task import FUNCTION
from mwaa_pipelines.results import RESULTS_KEY
from mwaa_pipelines.selection import exact_selector
from mwaa_pipelines.sensors import STARTS_IN_TRIGGERER, NodeSensor, chosen_nodes

# Of those that a folder's task builds.
_LOGGED_NODES = 50


class RunSensor(NodeSensor):
    """Shows the progress of a model and retries it."""

    dbt_operator = DbtRunLocalOperator


class SeedSensor(NodeSensor):
    """Shows the progress of a seed and retries it."""

    dbt_operator = DbtSeedLocalOperator


class SnapshotSensor(NodeSensor):
    """Shows the progress of a snapshot and retries it."""

    dbt_operator = DbtSnapshotLocalOperator


class FunctionSensor(NodeSensor):
    """Shows the progress of a function and retries it."""

    dbt_operator = DbtBuildLocalOperator


class TestSensor(NodeSensor):
    """Shows the progress of the tests of a model, seed or snapshot, and retries them."""

    __test__ = False

    is_test_sensor = True
    dbt_operator = DbtTestLocalOperator

    @property
    def outcome_key(self) -> str:
        """See NodeSensor."""
        return f"tests of {self.model_unique_id}"

    def selection(self, context: Any, report: dict[str, Any]) -> str:
        """Return the tests whose models are all built. The node's own task has succeeded."""
        ti, run_id = context["ti"], context["run_id"]
        models = {task.task_id: task.model_unique_id for task in self._sensors() if not task.is_test_sensor}
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=list(models), run_ids=[run_id]).get(run_id, {})
        # A test that reads several models belongs to each of them. The model that is built last runs it.
        built = {model for task_id, model in models.items() if states.get(task_id) == "success"}
        needed: dict[str, set[str]] = {}
        for task in self._sensors():
            if task.is_test_sensor:
                for test in task.node_ids:
                    needed.setdefault(test, set()).add(task.model_unique_id)
        return " ".join(exact_selector(test) for test in self.nodes if needed[test.unique_id] <= built)


class FolderSensor(NodeSensor):
    """Shows the progress of a folder's nodes in a large project, and runs those again that did not succeed."""

    # Its selector names no node.
    template_fields = ()
    dbt_operator = DbtBuildLocalOperator

    def __init__(self, *, folder: Folder, **arguments: Any) -> None:
        """Create the task.

        Args:
            folder: whose nodes it watches.
            **arguments: of NodeSensor.
        """
        self.folder = folder
        # Otherwise dbt would also run tests that belong to other folders.
        super().__init__(**{**arguments, "indirect_selection": "empty"})

    @property
    def outcome_key(self) -> str:
        """See NodeSensor."""
        return self.folder.name

    def set_downstream(self, task_or_task_list: Any, *args: Any, **kwargs: Any) -> None:
        """Set downstream tasks, but not itself, as Cosmos does for two nodes of the folder."""
        if task_or_task_list is not self:
            super().set_downstream(task_or_task_list, *args, **kwargs)

    def selection(self, context: Any, report: dict[str, Any]) -> str:
        """Return the nodes that did not succeed in the task that runs dbt for all. If only this one is cleared, all."""
        statuses = {entry["unique_id"]: entry["status"] for entry in report["results"]}
        chosen = chosen_nodes(context, report)
        nodes = [node for node in self.node_ids if chosen is None or node in chosen]
        # Somebody who clears the whole run gives both tasks the same number of tries.
        built = statuses if report.get("try_number") == context["ti"].try_number else {}
        built = built | {entry["unique_id"]: entry["status"] for entry in self._earlier(context).get("results", [])}
        nodes = [node for node in nodes if built.get(node) not in SUCCEEDED]
        if not nodes:
            return ""
        more = [f"and {len(nodes) - _LOGGED_NODES} more"] if len(nodes) > _LOGGED_NODES else []
        self.log.info("dbt builds these nodes: %s", ", ".join([*nodes[:_LOGGED_NODES], *more]))
        self.selected_ids = {CHOSEN: nodes}
        if context["params"]["select"]:
            # The parameter names models, and dbt finds their tests only with its default.
            self.dbt_arguments = {**self.dbt_arguments, "indirect_selection": None}
            # The pipeline's `exclude` can name tests.
            exclude = (self.dag.get_task(self.producer_task_id).exclude or "").split()
            self.exclude = " ".join([*self._leave_out_tests(set(nodes)), *exclude])
        return CHOSEN

    def run_node(self, context: Any, select: str) -> None:
        """See NodeSensor. dbt_check reads the results of all attempts."""
        earlier = self._earlier(context)
        try:
            super().run_node(context, select)
        finally:
            latest = self._earlier(context)
            if earlier and latest and latest["invocation_id"] != earlier["invocation_id"]:
                again = {entry["unique_id"] for entry in latest["results"]}
                others = [entry for entry in earlier["results"] if entry["unique_id"] not in again]
                context["ti"].xcom_push(key=RESULTS_KEY, value={**latest, "results": [*others, *latest["results"]]})

    def _earlier(self, context: Any) -> dict[str, Any]:
        """Return what earlier attempts of this try of Airflow have pushed; nothing if a hook of dbt failed."""
        ti = context["ti"]
        report = ti.xcom_pull(task_ids=ti.task_id, key=RESULTS_KEY) or {"try_number": 0, "results": []}
        is_current = report["try_number"] > (ti.try_number - 1) * (self.node_retries + 1)
        hooks = (entry for entry in report["results"] if entry["unique_id"].startswith("operation."))
        return report if is_current and all(entry["status"] in SUCCEEDED for entry in hooks) else {}

    def _leave_out_tests(self, nodes: set[str]) -> list[str]:
        """Return dbt's selectors of tests that read these nodes but are not among them."""
        tests = [node for task in self._sensors() for node in task.nodes if node.resource_type == DbtResourceType.TEST]
        if not tests:
            return ["resource_type:test"]
        others = [test for test in tests if test.unique_id not in nodes and nodes.intersection(test.depends_on)]
        if not others:
            return []
        self.selected_ids = {**self.selected_ids, LEFT_OUT: [test.unique_id for test in others]}
        return [LEFT_OUT]


NODE_CONVERTERS = {
    DbtResourceType.MODEL: RunSensor.of_node,
    DbtResourceType.SEED: SeedSensor.of_node,
    DbtResourceType.SNAPSHOT: SnapshotSensor.of_node,
    FUNCTION: FunctionSensor.of_node,
    DbtResourceType.TEST: TestSensor.of_node,
}


def folder_converters(folders: Iterable[Folder]) -> dict[DbtResourceType, Callable[..., FolderSensor]]:
    """Return the converters for RenderConfig.node_converters. They return the same task for all nodes of a folder."""
    folder_of = {node: folder for folder in folders for node in folder.members}
    # By name, because hashing a folder reads all its nodes.
    sensors: dict[str, FolderSensor] = {}

    def task_of_folder(
        *, dag: DAG, task_group: TaskGroup, task_args: dict[str, Any], node: DbtNode, **_: Any
    ) -> FolderSensor:
        folder = folder_of[node.unique_id]
        if folder.name not in sensors:
            sensors[folder.name] = FolderSensor(
                dag=dag, task_group=task_group, task_id=folder.name, folder=folder, **task_args
            )
        return sensors[folder.name]

    built = (DbtResourceType.MODEL, DbtResourceType.SEED, DbtResourceType.SNAPSHOT, FUNCTION)
    return dict.fromkeys(built, task_of_folder)


def link_folders(group: TaskGroup) -> None:
    """Set the dependencies between the folders' tasks in a group. Cosmos does not know those of tests."""
    sensors = {task.folder.name: task for task in group.children.values() if isinstance(task, FolderSensor)}
    for sensor in sensors.values():
        for name in sorted(sensor.folder.upstream):
            sensors[name].set_downstream(sensor)


def start_at_once(tasks: Iterable[Any]) -> None:
    """Let the sensors among a DAG's tasks start with the run, whatever the state of their upstream tasks.

    Before Airflow 3.3 this would need a worker for each of them at the same time, so they start layer by layer.
    """
    sensors = {task.task_id: task for task in tasks if isinstance(task, NodeSensor)} if STARTS_IN_TRIGGERER else {}
    for sensor in sensors.values():
        sensor.trigger_rule = "always"
        if sensor.task_of_model:
            # Costs no time here, and lets people clear a node with its tests.
            BaseOperator.set_downstream(sensors[sensor.task_of_model], sensor)
