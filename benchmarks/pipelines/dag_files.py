"""The DAG files that are measured: ours as they are shipped, and the alternatives beside them."""

import json
import shutil
from pathlib import Path

import yaml

from benchmarks.pipelines.projects import Size, entry

OURS = "pipelines.py"
ALTERNATIVES = Path(__file__).with_name("alternatives.py")


def write_dag_files(folder: Path, wanted: list[tuple[Size, list[str]]]) -> None:
    """Write what makes the DAGs of these projects: our entries, and the alternatives that are named beside each."""
    entries = {"pipelines": [entry(size) for size, _ in wanted]}
    (folder / "pipelines.yml").write_text(yaml.safe_dump(entries))
    shutil.copy(ALTERNATIVES, folder)
    others = [
        {"name": size.name, "schema": size.schema, "threads": size.threads, "modes": modes} for size, modes in wanted
    ]
    (folder / ALTERNATIVES.name).with_suffix(".json").write_text(json.dumps(others))
