"""Runs a definition once: `python run_definition.py FILE`. Exits with 0 if the run succeeded.

dag-factory loads it, as in the service, and Airflow schedules and runs its tasks, one after the other, in this process.
"""

import os
import sys
from pathlib import Path


def main(path: Path) -> int:
    """Run the definition, and return the exit code."""
    # Imported here, because they read the configuration when they are imported.
    from dagfactory.dagfactory import _DagFactory

    (dag,) = _DagFactory(config_filepath=str(path)).build_dags().values()
    run = dag.test()
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Threads of Airflow's in-process API server would keep the process alive.
    os._exit(code)
