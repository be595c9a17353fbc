"""`python -m mwaa_pipelines.runner`: run the job at the address in DBT_JOB, and exit with dbt's exit code."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.job import Job
from mwaa_pipelines.runner.outcome import Outcome
from mwaa_pipelines.runner.run import Runner
from mwaa_pipelines.runner.stream import BatchWriter, job_key, split_url

# s3://bucket/prefix with the job, which also takes the news about it.
JOB = "DBT_JOB"
# dbt could not start. dbt's own codes are 0, 1 and 2.
NOT_STARTED = 3

log = logging.getLogger("mwaa_pipelines.runner")


def main() -> int:
    """Run the job, and return the exit code of this program."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mwaa_pipelines").setLevel(logging.INFO)
    url = os.environ.get(JOB, "")
    bucket, prefix = split_url(url)
    if not (bucket and prefix):
        log.error("%s must be the address of a job, s3://bucket/prefix, not %r", JOB, url)
        return NOT_STARTED
    s3_client = boto3.client("s3")
    try:
        content = s3_client.get_object(Bucket=bucket, Key=job_key(prefix))["Body"].read()
    except (BotoCoreError, ClientError) as error:
        log.error("the job %s cannot be read: %s", url, error)  # noqa: TRY400 - the message says enough
        return NOT_STARTED
    writer = BatchWriter(s3_client, url)

    def say(line: str) -> None:
        print(line, flush=True)
        writer.add_line(line)

    handler = logging.StreamHandler(_Lines(writer))
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    with tempfile.TemporaryDirectory() as folder:
        outcome = _run(content, writer, say, Path(folder))
        logging.getLogger().removeHandler(handler)
        # Before the files are deleted, which takes a while.
        writer.close(outcome.exit_code, outcome.error)
    return outcome.exit_code


def _run(content: bytes, writer: BatchWriter, say: Callable[[str], None], folder: Path) -> Outcome:
    try:
        runner = Runner(Job.from_json(content), writer.push, say, folder)

        def stop(_number: int, _frame: FrameType | None) -> None:
            # Nothing else: the signal can interrupt this thread while it prints, or holds a lock.
            runner.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        return runner.run()
    except PipelineError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says enough
        return Outcome(NOT_STARTED, str(error))
    except Exception as error:
        log.exception("The runner failed")
        return Outcome(NOT_STARTED, f"the runner failed: {type(error).__name__}: {error}")


class _Lines:
    """A stream for a log handler that adds lines to the batches."""

    def __init__(self, writer: BatchWriter) -> None:
        self._writer = writer

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._writer.add_line(line)

    def flush(self) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
