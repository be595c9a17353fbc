"""Signals and exit codes of all commands."""

import subprocess
import sys

INTERRUPTED_IMPORT = """
import os, signal, sys, typer
from mwaa_local.command import checkout_settings

class Interrupted:
    def find_spec(self, name, *_):
        if name == "asyncio.queues":
            os.kill(os.getpid(), signal.SIGINT)

def command():
    sys.meta_path.insert(0, Interrupted())
    with checkout_settings():
        import psycopg

typer.run(command)
"""


def test_ctrl_c_during_an_import_stops_the_command():
    command = [sys.executable, "-c", INTERRUPTED_IMPORT]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.stderr == "Stopped.\n"
    assert completed.returncode == 130
