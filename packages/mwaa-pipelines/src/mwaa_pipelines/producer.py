"""The task that runs dbt for all nodes, when a person clears it or its worker is lost.

Cosmos 1.15.1 skips each further try, so clearing a whole run would start one dbt process for each node.
"""

from typing import Any

from mwaa_pipelines.compatibility import AirflowSkipException


def build_nodes(context: Any) -> None:
    """Run dbt for all nodes. It is the task's `execute`.

    A further try does so only if all nodes were cleared with the task. Otherwise the task of each node that did not
    succeed builds it.

    Raises:
        AirflowSkipException: this is a further try, and nodes have succeeded.
    """
    task = context["task"]
    if context["ti"].try_number > 1 and not _all_cleared(context):
        raise AirflowSkipException("dbt does not run again for all nodes. The task of each failed node runs it")
    task.build_and_run_cmd(context=context, cmd_flags=task.add_cmd_flags())


def _all_cleared(context: Any) -> bool:
    """Whether a person has cleared the task, and no node counts as built."""
    ti = context["ti"]
    # Airflow also starts a task again whose worker it lost, where dbt may still be running. Only clearing a task raises
    # the number of tries that it may have, because it has no retries.
    if ti.try_number > ti.max_tries + 1:
        return False
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    nodes = [task for task in context["dag"].tasks if getattr(task, "producer_task_id", None) == ti.task_id]
    return not any(states.get(task.task_id) == "success" for task in nodes)
