"""`python -m mwaa_pipelines.serverless.process FOLDER`: run the job in FOLDER/job.json, and write FOLDER/outcome.json.

A process of its own, because dbt's packages and Airflow's do not fit into one environment.
"""

import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.run import Runner
from mwaa_pipelines.serverless.workflow import JOB_FILE, OUTCOME_FILE

NOT_STARTED = 3

log = logging.getLogger("mwaa_pipelines.serverless")


def main(folder: Path) -> int:
    """Run the job, and return the exit code of this program."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mwaa_pipelines").setLevel(logging.INFO)
    xcoms: dict[str, Any] = {}
    work = folder / "work"
    work.mkdir()
    try:
        job = Job.from_json((folder / JOB_FILE).read_bytes())
        runner = Runner(job, xcoms.__setitem__, lambda line: print(line, flush=True), work)

        def stop(_number: int, _frame: FrameType | None) -> None:
            # Nothing else: the signal can interrupt this thread while it prints, or holds a lock.
            runner.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        outcome = runner.run()
    except PipelineError as error:
        outcome = Outcome(NOT_STARTED, str(error))
    except Exception as error:
        log.exception("The runner failed")
        outcome = Outcome(NOT_STARTED, f"the runner failed: {type(error).__name__}: {error}")
    content = {"exit_code": outcome.exit_code, "error": outcome.error, "xcoms": xcoms}
    (folder / OUTCOME_FILE).write_text(json.dumps(content))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
