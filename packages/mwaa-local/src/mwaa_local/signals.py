"""The signals that stop a command."""

import contextlib
import signal
from collections.abc import Iterator

# A closed terminal sends SIGHUP. A command that nohup started ignores it.
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    SIGNALS.append(signal.SIGHUP)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals within the block. Processes that start within it get them, unless they have their own session."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
