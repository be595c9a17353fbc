"""Parses the DAGs folder, and prints the dbt selection of each task as JSON: `python print_selectors.py`."""

import json
from typing import Any

from conftest import DAGS, DagBag


def main() -> None:
    bag = DagBag(str(DAGS / "pipelines.py"))
    assert bag.import_errors == {}, bag.import_errors
    print(json.dumps({dag_id: [_task(task) for task in dag.tasks] for dag_id, dag in bag.dags.items()}))


def _task(task: Any) -> dict[str, Any]:
    values = {name: getattr(task, name, None) for name in ("task_id", "base_cmd", "select", "exclude", "selector")}
    return values | {"upstream": sorted(task.upstream_task_ids)}


if __name__ == "__main__":
    main()
