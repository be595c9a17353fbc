"""A scene whose pipeline runs dbt in tasks of ECS."""

from pathlib import Path
from typing import Any

from mwaa_local.aws import seed, seed_ecs
from mwaa_local.testing.scene import DAG, Scene
from mwaa_pipelines.ecs_task import started_by
from mwaa_release.progress import Steps


class EcsScene(Scene):
    """A scene whose pipeline runs dbt in tasks of ECS."""

    settings_of_pipeline = f"""schedule: null
    execution_mode: ecs
    threads: 1
    ecs: {{cluster: {seed_ecs.CLUSTER}, cpu: 256, memory: 512}}"""

    def release(self, steps: Steps, project: Path) -> str:
        """Also create the stack of ECS."""
        seed_ecs.seed_ecs(self.settings)
        return super().release(steps, project)

    @property
    def ecs(self) -> Any:
        return seed.client(self.settings, "ecs")

    def task_arns(self) -> list[str]:
        """Return the running tasks."""
        return list(self.ecs.list_tasks(cluster=seed_ecs.CLUSTER)["taskArns"])

    def started_for(self, run_id: str, task_id: str) -> list[str]:
        """Return the stopped tasks that a task of Airflow has started."""
        tasks = seed_ecs.stopped_tasks(self.settings)
        return [task["taskArn"] for task in tasks if task["startedBy"] == started_by(DAG, run_id, task_id)]
