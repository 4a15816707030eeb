"""``python -m quantface_export`` is the command line."""

from quantface_export.cli import main

main()
