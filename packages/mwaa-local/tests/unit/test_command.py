"""Signals and exit codes of all commands."""

import os
import subprocess
import sys

import psutil
import pytest


def outcome(program: str, **variables: str) -> tuple[int, str, str]:
    """Run a Python program, and return its exit code, output and errors."""
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


INTERRUPTED_IMPORT = """
import os, signal, sys, time, typer
from mwaa_local.command import checkout_settings

class Interrupted:
    def find_spec(self, name, *_):
        if name == "asyncio.queues":
            os.kill(os.getpid(), signal.SIGINT)

def command():
    sys.meta_path.insert(0, Interrupted())
    with checkout_settings():
        try:
            import psycopg
            time.sleep(20)
        finally:
            print(psycopg.__name__)

typer.run(command)
"""


def test_ctrl_c_during_an_import_stops_the_command_after_it():
    assert outcome(INTERRUPTED_IMPORT) == (130, "psycopg\n", "Stopped.\n")


INTERRUPTED_THREAD = """
import os, signal, sys, threading, time, typer
from mwaa_local.command import checkout_settings

def interrupt(frame, event, _):
    if event == "call" and frame.f_code is threading.Event.wait.__code__:
        os.kill(os.getpid(), signal.SIGINT)

def command():
    with checkout_settings():
        thread = threading.Thread(target=time.sleep, args=[0.5])
        sys.setprofile(interrupt)
        thread.start()
        sys.setprofile(None)
        print("started")
        time.sleep(20)

typer.run(command)
"""


def test_ctrl_c_while_a_thread_starts_stops_the_command_after_it():
    assert outcome(INTERRUPTED_THREAD) == (130, "started\n", "Stopped.\n")


INTERRUPTED_EXIT = """
import os, signal, typer
from mwaa_local.command import checkout_settings

class Late:
    def __del__(self, kill=os.kill, process=os.getpid()):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            kill(process, number)

def command():
    with checkout_settings():
        print("done")

late = Late()
typer.run(command)
"""


def test_signal_after_the_end_of_a_command_keeps_its_exit_code():
    assert outcome(INTERRUPTED_EXIT) == (0, "done\n", "")


# Each of them loses the KeyboardInterrupt, or changes it.
LOST = {
    "callback": """
class Target: pass
target = Target()
reference = weakref.ref(target, interrupt)
del target
""",
    "bare except": """
try:
    interrupt()
except BaseException:
    pass
""",
    "other error": """
try:
    interrupt()
except KeyboardInterrupt:
    error = ValueError("interrupted")
raise error
""",
    "nothing": "interrupt()",
}
LOSES = """
import os, signal, sys, time, typer, weakref
from mwaa_local.command import checkout_settings

def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)

sys.unraisablehook = lambda _: None

def command():
    with checkout_settings():
        try:
            {lose}
            time.sleep(20)
            print("not interrupted")
        finally:
            time.sleep(0.5)
            {clean_up}

typer.run(command)
"""


def losing(lose: str, clean_up: str = "print('cleaned up')") -> tuple[int, str, str]:
    return outcome(LOSES.format(lose=lose.strip().replace("\n", "\n" + " " * 12), clean_up=clean_up))


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
def test_lost_ctrl_c_stops_the_command_once(lose):
    assert losing(lose) == (130, "cleaned up\n", "Stopped.\n")


def test_error_of_the_clean_up_is_shown():
    assert losing(LOST["nothing"], "raise OSError('not restored')") == (2, "", "Set-up failed: not restored\n")


FULL_DISK = """
import errno, typer
from mwaa_local.command import checkout_settings

def command():
    with checkout_settings():
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

typer.run(command)
"""


def test_full_disk_is_one_message():
    message = "Set-up failed: the disk is full: /data/x. Free some space, and try again\n"
    assert outcome(FULL_DISK) == (2, "", message)


INTERRUPTED_START = """
import os, signal, subprocess, sys, typer
from mwaa_local import up
from mwaa_local.command import checkout_settings

def interrupt(moment):
    if moment == os.environ["MOMENT"]:
        os.kill(os.getpid(), signal.SIGINT)

class Interrupted(subprocess.Popen):
    def __init__(self, *_, **options):
        interrupt("before")
        super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(self.pid, flush=True)
        interrupt("after")

def command():
    up.subprocess.Popen = Interrupted
    with checkout_settings() as settings:
        up.start(settings)

typer.run(command)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_during_the_start_of_a_process_ends_it(moment, tmp_path):
    code, process, errors = outcome(INTERRUPTED_START, LOCAL_DIR=str(tmp_path), MOMENT=moment)
    assert (code, errors) == (130, "Stopped.\n")
    assert not psutil.pid_exists(int(process))
