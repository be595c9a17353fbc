"""Runs the sample with the resources of mw1.micro: `python -m benchmarks.pipelines.small_environment [MODE] [BYTES]`.

One container of mw1.micro has 1 vCPU and 3 GB for scheduler, DAG processor, triggerer and tasks. Here these processes
share one CPU, and a memory cgroup kills them above 3 GB. The stand-ins get the other CPUs. Needs root, Linux with
memory cgroups (version 1 or 2), and two CPUs.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from mwaa_local.dag_run import run_pipeline, show
from mwaa_local.mwaa import environment
from mwaa_local.processes import spawn
from mwaa_local.stack import Stack
from mwaa_local.testing.checkout import new_checkout
from mwaa_release import build as release_build
from mwaa_release.pipelines import first_pipeline
from mwaa_release.progress import Steps

LIMIT = 3 * 1024**3
CONTAINER = ("scheduler", "dag-processor", "triggerer")
_VERSION_1 = Path("/sys/fs/cgroup/memory")
GROUP = (_VERSION_1 if _VERSION_1.is_dir() else Path("/sys/fs/cgroup")) / "small_environment"


class Container:
    """A cgroup with the memory of one container."""

    def __init__(self, limit: int) -> None:
        GROUP.mkdir(exist_ok=True)
        limit_file = "memory.limit_in_bytes" if _VERSION_1.is_dir() else "memory.max"
        (GROUP / limit_file).write_text(str(limit))
        self.peak = 0

    def spawn(self, name: str, command: list[str], *arguments: Any) -> Any:
        """Start a process of Airflow inside or outside of the container."""
        if name.split()[-1] in CONTAINER:
            enter = 'echo $$ >"$0/cgroup.procs" && exec taskset --cpu-list 0 "$@"'
            command = ["sh", "-c", enter, str(GROUP), *command]
        return spawn(name, command, *arguments)

    def watch(self, stop: threading.Event) -> None:
        """Record the highest memory, without the page cache, until `stop` is set."""
        names = ("total_rss", "rss") if _VERSION_1.is_dir() else ("anon",)
        while not stop.wait(0.5):
            statistics = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
            self.peak = max(self.peak, *(int(statistics.get(name, 0)) for name in names))


def measure(mode: str, limit: int) -> str:
    """Run the sample pipeline once and describe the result.

    Args:
        mode: the execution_mode of the pipeline.
        limit: the container's memory in bytes.
    """
    container, stop = Container(limit), threading.Event()
    environment.spawn = container.spawn
    with tempfile.TemporaryDirectory() as folder:
        checkout = new_checkout(Path(folder) / "state")
        os.environ.update(checkout.environment | checkout.settings.aws_environment() | {"LOCAL_PARALLELISM": "3"})
        stack, idle = Stack(checkout.settings), 0
        watcher = threading.Thread(target=container.watch, args=(stop,))
        watcher.start()
        try:
            stack.take_lock()
            with Steps() as steps:
                pipeline = first_pipeline()
                release_id = stack.start(steps)[pipeline.project_name]
                idle, container.peak = container.peak, 0
                outcome = run_pipeline(checkout.settings, pipeline, release_id, steps, stack.check)
            if outcome.state != "success":
                show(outcome, checkout.state / "mwaa" / "logs")
        finally:
            stack.stop()
            stop.set()
            watcher.join()
            GROUP.rmdir()
    return (
        f"{mode}: {outcome.state} in {outcome.wall_seconds:.0f} s, {len(outcome.tasks)} tasks; "
        f"memory {idle / 1e9:.2f} GB after the start, at most {container.peak / 1e9:.2f} GB during the run"
    )


def use_mode(mode: str) -> None:
    """Make each build release the sample with this execution mode."""
    copy = release_build._copy

    def copy_and_change(source: Path, target: Path, excluded: set[str]) -> None:
        copy(source, target, excluded)
        pipelines = target / "pipelines.yml"
        if pipelines.is_file():
            text = pipelines.read_text()
            line = "target_schema: analytics\n"
            pipelines.write_text(text.replace(line, f"{line}    execution_mode: {mode}\n", 1))

    release_build._copy = copy_and_change


if __name__ == "__main__":
    # The stand-ins run on the other CPUs.
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {0})
    mode, limit = (*sys.argv[1:], *("watcher", str(LIMIT))[len(sys.argv) - 1 :])[:2]
    use_mode(mode)
    print(measure(mode, int(limit)))
