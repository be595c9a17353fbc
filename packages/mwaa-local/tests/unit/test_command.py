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


FULL_DISK = """
import errno, typer
from mwaa_local.command import checkout_settings

def command():
    with checkout_settings():
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

typer.run(command)
"""


def test_full_disk_is_one_message():
    completed = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, check=False)
    assert completed.stderr == "Set-up failed: the disk is full: /data/x. Free some space, and try again\n"
    assert completed.returncode == 2
