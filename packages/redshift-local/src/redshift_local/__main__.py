"""The command line: `redshift-local serve`, or `python -m redshift_local serve`."""

import os
import signal

INTERRUPTED = 130
# A signal during the imports needs no cleanup, and nobody needs the traceback.
signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import asyncio  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated  # noqa: E402

import typer  # noqa: E402

from redshift_local.server.closed import DISK_FULL, reason  # noqa: E402
from redshift_local.server.gateway import Gateway  # noqa: E402
from redshift_local.server.install import install  # noqa: E402
from redshift_local.server.postgres import Postgres  # noqa: E402
from redshift_local.settings import ADMIN, DATABASE, HOST, SetupError, admin_password, check_port, dsn  # noqa: E402

POSTGRES_DIED = 1
SETUP_FAILED = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Amazon Redshift on your machine: PostgreSQL behind Redshift's wire protocol and SQL.",
    epilog="Exit codes: 0 stopped by SIGTERM; 1 PostgreSQL died; 2 the set-up failed; 130 Ctrl-C.",
)


@app.callback()
def _main() -> None:
    """Without a callback, Typer would drop the name of a single command."""


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1.")] = 5439,
    folder: Annotated[
        Path, typer.Option(file_okay=False, help="Where databases and the admin's password are stored.")
    ] = Path(".redshift-local"),
    with_parent: Annotated[
        bool,
        typer.Option(
            "--with-parent", help="Also stop when the process that started this one ends. Prints no password."
        ),
    ] = False,
) -> None:
    """Serve Redshift clients until Ctrl-C or SIGTERM.

    Prints the admin's address once the server accepts connections. Committed data is there again at the next start.
    """
    signal.signal(signal.SIGINT, _stop_starting)
    signal.signal(signal.SIGTERM, _stop_starting)
    parent = os.getppid() if with_parent else None
    postgres = None
    try:
        check_port(port, "--port")
        folder = folder.resolve()
        password = admin_password(folder)
        postgres = Postgres(folder / "warehouse")
        postgres.start()
        install(postgres, DATABASE, ADMIN, password)
        ready = f"redshift-local: accepts connections on {HOST}:{port}, database {DATABASE}"
        if not with_parent:  # a parent often writes this output to a log file
            ready += f"\n{dsn(port, password)}"
        code = asyncio.run(_serve(postgres, port, parent, ready))
    except (SetupError, OSError) as problem:
        code, text = reason(postgres) if postgres is not None else ("", "")
        print(f"Set-up failed: {text if code == DISK_FULL else problem}", file=sys.stderr)
        code = SETUP_FAILED
    finally:
        # A second Ctrl-C must not interrupt the shutdown of PostgreSQL.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if postgres is not None:
            postgres.stop()
    raise typer.Exit(code)


def _stop_starting(number: int, _: object) -> None:
    sys.exit(INTERRUPTED if number == signal.SIGINT else 0)


async def _serve(postgres: Postgres, port: int, parent: int | None, ready: str) -> int:
    stopped = asyncio.Event()
    codes: list[int] = []

    def stop(code: int) -> None:
        codes.append(code)
        stopped.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop, INTERRUPTED)
    loop.add_signal_handler(signal.SIGTERM, stop, 0)
    gateway = Gateway(postgres, port)
    await gateway.start()
    print(ready, flush=True)
    while not stopped.is_set():
        try:
            await asyncio.wait_for(stopped.wait(), 0.5)
        except TimeoutError:
            if postgres.process.poll() is not None:
                code, text = reason(postgres)
                if code != DISK_FULL:
                    text = f"see {postgres.log}. Start the warehouse again: committed data is safe"
                print(f"PostgreSQL stopped with exit code {postgres.process.returncode}; {text}.", file=sys.stderr)
                stop(POSTGRES_DIED)
            elif parent not in (None, os.getppid()):
                stop(0)
    await gateway.stop()
    return codes[0]


if __name__ == "__main__":
    app()
