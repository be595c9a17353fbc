"""The signals that stop a command. They raise KeyboardInterrupt, again and again until the command ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# A closed terminal sends SIGHUP. A command that nohup started ignores it.
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    SIGNALS.append(signal.SIGHUP)
_RETRY_SECONDS = 0.1
_IMPORT = "<frozen importlib._bootstrap>"
_START_OF_A_THREAD = threading.Thread.start.__code__


class Interrupt:
    """A signal that has to end this command.

    A KeyboardInterrupt can get lost: Python prints and forgets one that is raised while it destroys an object (one of
    its own callbacks runs after each import), and compiled modules forget one while they import others
    (https://docs.python.org/3.12/library/signal.html, "Signal Handlers and Exceptions"). Others turn it into an error
    of their own. So it is raised again after 0.1 s, but not in except and finally blocks, which can be its clean-up.
    It is not raised during an import, because the clean-up may need that module, and not while a thread starts, because
    that thread would print a KeyError (https://github.com/python/cpython/pull/140799).
    """

    def __init__(self) -> None:
        self.received = False
        self._was_raised = False
        self._is_over = False
        self._blocks = 0

    def raise_on_signals(self) -> None:
        """Raise KeyboardInterrupt in the main thread on the first signal, and ignore the others."""
        for number in SIGNALS:
            signal.signal(number, self._receive)
        signal.signal(signal.SIGALRM, self._raise)

    def end(self) -> None:
        """Raise no more: the code that ends the command has begun."""
        self._is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Ignore signals within the block. Processes that start within it get them, unless in their own session."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Raise no KeyboardInterrupt within the block, but after it. So a process that starts in it is known."""
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C must not interrupt the clean-up. A new process would inherit SIG_IGN, and ignore the signal
        # that has to end it until it has its own handlers.
        for other in SIGNALS:
            signal.signal(other, _do_nothing)
        if number == signal.SIGHUP:
            # Output to a closed terminal raises an error, also in the clean-up.
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
        self.received = True
        self._raise(number, frame)

    def _raise(self, _: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
        # An exception that is being handled can come from the KeyboardInterrupt.
        if self._blocks or _must_finish(frame) or (self._was_raised and sys.exception()):
            return
        self._was_raised = True
        raise KeyboardInterrupt


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _must_finish(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename == _IMPORT or frame.f_code is _START_OF_A_THREAD:
            return True
        frame = frame.f_back
    return False


interrupt = Interrupt()
uninterrupted = interrupt.block
deferred = interrupt.defer


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Run the block until a signal ends it."""
    try:
        yield
    except KeyboardInterrupt:
        interrupt.end()
