"""The ECS stand-in as Airflow's tasks see it, and images for it."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from mwaa_local.aws import roles, seed, seed_ecs
from mwaa_local.aws.container import images_folder
from mwaa_local.settings import ACCOUNT_ID, HOST, REGION, Passwords
from mwaa_local.testing.aws import Aws
from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.ecs_task import Cluster, find_task

IMAGE = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/{seed_ecs.CLUSTER}"
SMALL = Ecs(cluster=seed_ecs.CLUSTER, cpu=256, memory=512)


class EcsAccount:
    """The stand-in with the stacks' roles, as the role of MWAA's tasks sees it."""

    def __init__(self, aws: Aws) -> None:
        self.aws, self.settings = aws, aws.settings
        seed.seed(aws.settings, Passwords("a", "Aa1", "a", "a", "a"), HOST, 1)
        seed_ecs.seed_ecs(aws.settings)
        session = roles.worker_session(aws.settings)
        self.ecs, self.ssm = (roles.client_of(session, aws.settings, service) for service in ("ecs", "ssm"))
        self.cluster = Cluster.read(self.ssm, seed_ecs.CLUSTER)

    def image(self, tag: str, program: str) -> str:
        """Add an image with a Python program, and a task definition for it. Return the task definition."""
        folder = images_folder(self.settings.state) / seed_ecs.CLUSTER / tag
        folder.mkdir(parents=True)
        image = {"path": [], "environment": {"FROM_IMAGE": "1"}, "entrypoint": [sys.executable, "-c", program]}
        (folder / "image.json").write_text(json.dumps(image))
        return self.definition(tag)

    def definition(self, tag: str, **changes: Any) -> str:
        """Register a task definition as that of the stack, with another image and other members of its container."""
        admin = self.aws.client("ecs")
        stack = admin.describe_task_definition(taskDefinition=seed_ecs.CLUSTER)["taskDefinition"]
        (container,) = stack["containerDefinitions"]
        names = ("requiresCompatibilities", "networkMode", "cpu", "memory", "executionRoleArn", "taskRoleArn")
        parameters = {name: changes.pop(name, stack[name]) for name in names}
        container |= {"image": f"{IMAGE}:{tag}", **changes}
        family = f"{seed_ecs.CLUSTER}-{tag}"
        admin.register_task_definition(family=family, containerDefinitions=[container], **parameters)
        return family

    def run(self, definition: str, settings: Ecs = SMALL, started_by: str = "flights_pipeline/run") -> str:
        url = f"s3://{self.cluster.bucket}/flights_pipeline/{time.monotonic_ns()}"
        return self.cluster.run(self.ecs, settings.model_copy(update={"task_definition": definition}), url, started_by)

    def wait(self, arn: str, condition: Callable[[dict[str, Any]], Any], ecs: Any = None) -> dict[str, Any]:
        until = time.monotonic() + 30
        while not condition(task := find_task(ecs or self.ecs, arn) or {}):
            assert time.monotonic() < until, task
            time.sleep(0.1)
        return task

    def ended(self, arn: str, ecs: Any = None) -> dict[str, Any]:
        """Wait until a task has stopped, and return it. `ecs` is a client with other permissions."""
        return self.wait(arn, lambda task: task["lastStatus"] == "STOPPED", ecs)

    def cluster_settings(self, definition: str) -> Ecs:
        return SMALL.model_copy(update={"task_definition": definition})
