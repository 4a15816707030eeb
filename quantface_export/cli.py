"""Entry point of ``quantface-export``; the commands are in ``quantface_export.commands``."""

from __future__ import annotations

import sys

from quantface_export.commands import bundles, phone, studies  # noqa: F401  (they register themselves)
from quantface_export.commands.app import app
from quantface_export.errors import QuantfaceError
from quantface_export.interrupt import stop_on_signals


def main() -> None:
    """Entry point: one clear line for what a person can mend, and its exit code."""
    stop_on_signals()
    try:
        app()
    except QuantfaceError as e:
        print(f"quantface-export: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
