"""The functions of a workflow's tasks, without the service. test_serverless.py of mwaa-local runs workflows."""

import subprocess
import sys

from mwaa_pipelines.serverless import tasks

# More output than a pipe takes, before the process ends.
VERBOSE = """
import signal, sys
def end(*_):
    for number in range(20_000):
        print(f"{number} SKIP relation")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""


def test_process_that_writes_much_while_it_ends_is_not_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", VERBOSE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        tasks._stop(process)
    assert process.returncode == 0
