"""Signals, settings, expected errors and exit codes of all commands."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from mwaa_local.signals import SIGNALS, interrupt

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
    interrupt.raise_on_signals()
    try:
        settings = Settings.from_environment()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(settings.aws_environment())
        yield settings
    except typer.Exit:
        raise
    except (KeyboardInterrupt, Exception) as error:
        # After a signal, a library can make an error of its own from KeyboardInterrupt.
        if isinstance(error, KeyboardInterrupt) or (interrupt.received and not _in_clean_up(error)):
            errors.print("Stopped.")
            raise typer.Exit(INTERRUPTED) from None
        if isinstance(error, expected_errors()):
            errors.print(f"Set-up failed: {error_words(error)}", style="red", markup=False)
            raise typer.Exit(SETUP_FAILED) from None
        raise
    finally:
        interrupt.end()
        # Python drops its handlers some time before the process ends. The command is done, whatever comes.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _in_clean_up(error: BaseException) -> bool:
    """Return True if the error came up while a KeyboardInterrupt was handled."""
    before = error.__context__
    return before is not None and (isinstance(before, KeyboardInterrupt) or _in_clean_up(before))
