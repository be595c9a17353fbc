"""The measured DAG files: this repository's and the alternatives."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from benchmarks.pipelines.projects import Size, entry

OURS = "pipelines.py"
ALTERNATIVES = Path(__file__).with_name("alternatives.py")


def write_pipelines(path: Path, sizes: Iterable[Size]) -> None:
    """Write the pipelines file of these projects."""
    path.write_text(yaml.safe_dump({"pipelines": [entry(size) for size in sizes]}))


def write_dag_files(
    folder: Path, wanted: list[tuple[Size, list[str]]], projects: Mapping[str, Path] | None = None
) -> None:
    """Write pipelines.yml and alternatives.json for these projects and their alternatives.

    Args:
        folder: the DAGs folder.
        wanted: the projects and their alternatives.
        projects: their folders by name, whose profiles.yml the alternative `bash` uses. A release has none.
    """
    write_pipelines(folder / "pipelines.yml", [size for size, _ in wanted])
    shutil.copy(ALTERNATIVES, folder)
    others = [
        {
            "name": size.name,
            "schema": size.schema,
            "threads": size.threads,
            "modes": modes,
            "profiles": str((projects or {}).get(size.name, "")),
        }
        for size, modes in wanted
    ]
    (folder / ALTERNATIVES.name).with_suffix(".json").write_text(json.dumps(others))
