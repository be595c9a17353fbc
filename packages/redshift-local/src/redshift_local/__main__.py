"""Runs the warehouse in the foreground: `python -m redshift_local`. Ends on Ctrl-C or SIGTERM, exit code 0.

With `--with-parent` it ends too when the process that started it is gone, however that went.
Exit code 1: PostgreSQL died. Exit code 2: the set-up failed, such as a busy port.
"""

import asyncio
import os
import signal
import sys

from redshift_local.server.gateway import Gateway
from redshift_local.server.install import install
from redshift_local.server.postgres import Postgres
from redshift_local.settings import ADMIN, HOST, Settings, SetupError, check_port

DATABASE = "dev"


async def _serve(postgres: Postgres, settings: Settings, parent: int | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(postgres, settings.port)
    await gateway.start()
    print(f"warehouse: accepts connections on {HOST}:{settings.port}, database {DATABASE}", flush=True)
    code = 0
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            if postgres.process.poll() is not None:
                text = f"warehouse: PostgreSQL stopped (exit code {postgres.process.returncode}); see {postgres.log}"
                print(f"{text}. Start the warehouse again: what was committed is kept.", file=sys.stderr)
                code = 1
                break
            if parent not in (None, os.getppid()):
                break
    await gateway.stop()
    return code


def main() -> int:
    """Run until told to stop; returns the exit code."""
    parent = os.getppid() if "--with-parent" in sys.argv[1:] else None
    postgres = None
    # A signal during the start ends it in order too: SystemExit passes through the finally below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings.from_environment()
        check_port(settings.port, "LOCAL_WAREHOUSE_PORT")
        password = settings.admin_password()
        postgres = Postgres(settings.state / "warehouse")
        postgres.start()
        install(postgres, DATABASE, ADMIN, password)
        return asyncio.run(_serve(postgres, settings, parent))
    except SetupError as problem:
        print(f"Set-up failed: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        if postgres is not None:
            postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
