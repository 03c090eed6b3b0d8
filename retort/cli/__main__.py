"""``python -m retort.cli``."""

from retort.cli import main

main()
