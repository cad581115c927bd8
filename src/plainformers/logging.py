"""The library's messages: few, each said once, none of them an answer that a caller needs.

Named and used as in Transformers: `plainformers.logging.set_verbosity_error()`, `get_logger(__name__)`.
"""

import logging as _logging
import os
import sys

CRITICAL, DEBUG, ERROR, FATAL, INFO, WARNING, WARN, NOTSET = (
    getattr(_logging, level) for level in ["CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "WARNING", "WARN", "NOTSET"]
)
_ROOT = _logging.getLogger("plainformers")
_said: set[str] = set()
_progress = [True]


class _StandardError(_logging.StreamHandler):
    """Writes to whatever sys.stderr is at that moment, so that captured and replaced streams work."""

    def emit(self, record):
        self.stream = sys.stderr
        super().emit(record)


if not _ROOT.handlers:
    _ROOT.addHandler(_StandardError())
    _ROOT.handlers[0].setFormatter(_logging.Formatter("plainformers: %(message)s"))
    _ROOT.setLevel(os.environ.get("PLAINFORMERS_VERBOSITY", "warning").upper())
    _ROOT.propagate = False


def get_logger(name: str | None = None) -> _logging.Logger:
    return _logging.getLogger(name) if name and name.startswith("plainformers") else _ROOT


def once(message: str, level: int = _logging.WARNING) -> None:
    """Logs a message the first time that it is given in this process."""
    if message not in _said:
        _said.add(message)
        _ROOT.log(level, message)


def get_verbosity() -> int:
    return _ROOT.getEffectiveLevel()


def set_verbosity(level: int) -> None:
    _ROOT.setLevel(level)


def set_verbosity_debug() -> None:
    set_verbosity(DEBUG)


def set_verbosity_info() -> None:
    set_verbosity(INFO)


def set_verbosity_warning() -> None:
    set_verbosity(WARNING)


def set_verbosity_error() -> None:
    set_verbosity(ERROR)


def enable_progress_bar() -> None:
    _progress[0] = True


def disable_progress_bar() -> None:
    _progress[0] = False


def is_progress_bar_enabled() -> bool:
    return _progress[0]


def progress(iterable, *, total: int | None = None, what: str = "", after: float = 2.0):
    """The items of an iterable, with a progress bar on a terminal when it takes longer than `after` seconds."""
    if not (_progress[0] and sys.stderr.isatty()):
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, total=total, desc=what, delay=after, leave=False)
