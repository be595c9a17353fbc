"""Where dbt runs in `make run` and `make drill`: on a worker, as the pipelines say, or in a task of ECS."""

from pathlib import Path

import yaml

from mwaa_local.aws.seed_ecs import CLUSTER
from mwaa_local.settings import SetupError

ECS = "ecs"
TARGETS = ("", ECS)


def check_target(target: str) -> None:
    """Check the name of a target.

    Raises:
        SetupError: it is unknown.
    """
    if target not in TARGETS:
        raise SetupError(f"--target {target}: choose {ECS}, or leave it out to run dbt as dags/pipelines.yml says")


def use_ecs(artifact: Path) -> None:
    """Change the pipelines of a built artifact, and not of the repository, so that ECS runs dbt."""
    path = artifact / "dags" / "pipelines.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in (content.setdefault("defaults", {}), *content["pipelines"]):
        for name in ("execution_mode", "test_behavior", "ecs"):
            entry.pop(name, None)
    content["defaults"] |= {"execution_mode": ECS, "ecs": {"cluster": CLUSTER}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
