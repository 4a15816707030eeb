"""What a command does when it is asked to stop."""

from __future__ import annotations

import signal

from quantface_export.errors import QuantfaceError


class Interrupted(QuantfaceError):
    """The user or the system asked the command to stop."""

    exit_code = 130


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}; nothing half-written is left")


def stop_on_signals() -> None:
    """Turn SIGINT and SIGTERM into :class:`Interrupted`, so that what is open is cleaned up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
