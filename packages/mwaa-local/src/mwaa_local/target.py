"""Where dbt runs in `make run` and `make drill`: as the pipelines say, in a task of ECS, or in MWAA Serverless."""

from pathlib import Path
from typing import Any

import yaml

from mwaa_local.aws.seed_ecs import CLUSTER
from mwaa_local.settings import SetupError
from mwaa_pipelines.settings import ENVIRONMENTS

ECS = "ecs"
SERVERLESS = "serverless"
TARGETS = ("", ECS, SERVERLESS)
# A pipeline's settings for each of them.
SETTINGS: dict[str, dict[str, Any]] = {
    ECS: {"execution_mode": "ecs", "ecs": {"cluster": CLUSTER}},
    SERVERLESS: {"execution_mode": "serverless"},
}

_MODE = ("execution_mode", "test_behavior", "ecs")
# What a workflow does not have; `make run` leaves it out, so that every pipeline can be tried.
_ONLY_IN_DAGS = ("load", "source_freshness", "warnings", "rows_change_percent", "deadline_minutes")
_ONLY_IN_DAGS += ("run_timeout_minutes", "timezone", "catchup")


def check_target(target: str) -> None:
    """Check the name of a target.

    Raises:
        SetupError: it is unknown.
    """
    if target not in TARGETS:
        raise SetupError(
            f"--target {target}: choose {ECS} or {SERVERLESS}, or leave it out to run dbt as dags/pipelines.yml says"
        )


def use_ecs(artifact: Path) -> None:
    """Change the pipelines of a built artifact, and not of the repository, so that ECS runs dbt."""
    path = artifact / "dags" / "pipelines.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in (content.setdefault("defaults", {}), *content["pipelines"]):
        for name in _MODE:
            entry.pop(name, None)
    content["defaults"] |= SETTINGS[ECS]
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def workflows_file(pipelines: Path, folder: Path) -> Path:
    """Write a copy of a pipelines file in which all pipelines are workflows, and return its path.

    The setting `serverless` stays, so that both forms of a workflow can be tried.

    Args:
        pipelines: the repository's file.
        folder: for the copy.
    """
    content = yaml.safe_load(pipelines.read_text(encoding="utf-8"))
    entries = [content.setdefault("defaults", {}), *content["pipelines"]]
    environments = [part or {} for entry in entries for part in (entry.get(ENVIRONMENTS) or {}).values()]
    for part in (*entries, *environments):
        for name in (*_MODE, *_ONLY_IN_DAGS):
            part.pop(name, None)
        if isinstance(part.get("schedule"), list):
            part["schedule"] = None
    content["defaults"] |= SETTINGS[SERVERLESS]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / pipelines.name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
