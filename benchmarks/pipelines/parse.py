"""Measures parsing the DAG file of a large project in a new process: after its imports, and with everything."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import Figure, interleaved
from benchmarks.pipelines.dag_files import ALTERNATIVES, OURS, write_dag_files
from benchmarks.pipelines.projects import Size, write_project
from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY, SetupError
from mwaa_release.build import build

# A node of a manifest is about 14 KB in real projects.
_SIZES = (Size("small", 4, 0, 4), Size("large", 1000, 0, 4, tests=4, description=8000))
_PAIRS = 5
# The small project's DAG file has the same imports as the large project's.
_TIMED = """
import runpy, sys, time
for path in sys.argv[1:]:
    start = time.perf_counter()
    runpy.run_path(path)
    taken = time.perf_counter() - start
print(taken)
"""
# The DAG processor does this with the file.
_SERIALIZED = """
import sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
(dag,) = DagBag(sys.argv[1]).dags.values()
DagSerialization.to_dict(dag)
"""


def parse(home: Path, python: Path, say: Callable[[str], None]) -> list[Figure]:
    """Measure the parse time, compared with a default Cosmos DAG of the same manifest.

    Args:
        home: an empty folder, AIRFLOW_HOME of the processes.
        python: the Python of Airflow's environment.
        say: shows the progress.
    """
    say(f"parse of {_SIZES[1].models:,} models: making the manifest")
    dags = home / "dags"
    artifact = build(home, [write_project(home.with_name(f"{home.name}-{size.name}"), size, 1, "u") for size in _SIZES])
    for release in artifact.releases:
        (dags / "dbt" / release.project_name / "CURRENT").write_text(f"{release.release_id}\n")
    for size in _SIZES:
        (home / size.name).mkdir()
        shutil.copy(dags / OURS, home / size.name)
        write_dag_files(home / size.name, [(size, ["watcher"])])
    environment = {**_startup_environment(home), "PYTHONPATH": str(dags)}

    def one(name: str) -> float:
        say(f"parse of {_SIZES[1].models:,} models: {name}")
        files = [str(home / size.name / name) for size in _SIZES]
        completed = subprocess.run(
            [python, "-c", _TIMED, *files], env=environment, cwd=home, capture_output=True, text=True, check=False
        )
        if completed.returncode:
            raise SetupError(f"{name} cannot be parsed:\n{completed.stderr[-2000:]}")
        return float(completed.stdout.splitlines()[-1])

    def everything(name: str) -> float:
        say(f"imports, parse and serialization: {name}")
        command = [python, "-c", _SERIALIZED, str(home / _SIZES[1].name / name)]
        start = time.perf_counter()
        completed = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise SetupError(f"{name} cannot be serialized:\n{completed.stderr[-2000:]}")
        return time.perf_counter() - start

    ours, plain = interleaved(_PAIRS, lambda: one(OURS), lambda: one(ALTERNATIVES.name))
    all_ours, all_plain = interleaved(_PAIRS, lambda: everything(OURS), lambda: everything(ALTERNATIVES.name))
    nodes = f"{_SIZES[1].models:,} models and {_SIZES[1].models * _SIZES[1].tests:,} tests"
    name, whole = f"parse in process, {nodes}, imports done", f"imports, parse and serialization, {nodes}"
    return [
        Figure(f"{name} (must: 1.5 s)", ours, "s", goal=0.8),
        Figure(name, ours, "s", "a DbtDag of Cosmos, untuned", plain),
        Figure(f"{whole} (must: 4 s)", all_ours, "s", goal=3),
        Figure(whole, all_ours, "s", "a DbtDag of Cosmos, untuned", all_plain),
    ]


def _startup_environment(home: Path) -> dict[str, str]:
    """Return the variables that startup.sh exports. On a web server it installs nothing."""
    command = ["bash", "-c", 'source "$1" && env -0', "startup", str(REPOSITORY / "startup.sh")]
    base = {**base_environment(), "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    completed = subprocess.run(
        command, env={**base, "MWAA_AIRFLOW_COMPONENT": "webserver"}, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in completed.stdout.split("\0") if line)
