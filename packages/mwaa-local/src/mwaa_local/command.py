"""Signals, settings, expected errors and exit codes of all commands."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from mwaa_local.signals import SIGNALS

INTERRUPTED = 130
# When the command started, in seconds of time.monotonic().
STARTED = time.monotonic()
# Nothing needs a clean-up before the command starts, and a traceback of its imports helps nobody.
for _number in SIGNALS:
    signal.signal(_number, lambda *_: os._exit(INTERRUPTED))

import typer  # noqa: E402

from mwaa_local.expected_errors import error_words, expected_errors  # noqa: E402
from mwaa_local.settings import Settings  # noqa: E402
from mwaa_release.progress import errors  # noqa: E402

RUN_FAILED = 1
SETUP_FAILED = 2


@contextlib.contextmanager
def checkout_settings() -> Iterator[Settings]:
    """Yield the settings of this checkout. An expected error ends the command with one message and an exit code."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        settings = Settings.from_environment()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(settings.aws_environment())
        yield settings
    except KeyboardInterrupt:
        # Before the expected errors: a module whose import was interrupted cannot be imported again.
        errors.print("Stopped.")
        raise typer.Exit(INTERRUPTED) from None
    except expected_errors() as error:
        errors.print(f"Set-up failed: {error_words(error)}", style="red", markup=False)
        raise typer.Exit(SETUP_FAILED) from None


def _interrupt(received: int, _: Any) -> None:
    # A second Ctrl-C must not interrupt the clean-up.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if received == signal.SIGHUP:
        # Output to a closed terminal raises an error, also in the clean-up.
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
    raise KeyboardInterrupt
