"""``python -m retort``."""

from retort.cli import main

main()
