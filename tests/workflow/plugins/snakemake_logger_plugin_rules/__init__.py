"""A logger of Snakemake for tests: as usual, but rule, wildcards and files of a job instead of its message."""

from __future__ import annotations

import sys
from logging import LogRecord

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Used with ``--logger rules`` where this directory is in PYTHONPATH."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.setFormatter(DefaultFormatter(show_failed_logs=self.common_settings.show_failed_logs))

    def emit(self, record: LogRecord) -> None:
        if "rule_msg" in record.__dict__:
            record.__dict__["rule_msg"] = None
        print(self.format(record), file=sys.stderr, flush=True)
