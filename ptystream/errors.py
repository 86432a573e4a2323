"""Every error that ptystream raises on purpose.

PtystreamError
├── ConfigError        a setting is missing, unknown or out of range
├── DecodeError        bytes from outside are not what they claim to be
├── TapeError          a recording can't be read or written
├── FileFormatError    a CXI or result file lacks what it should hold
└── StoppedError       a peer or a process that was needed is gone
"""


class PtystreamError(Exception):
    """The root: its message says what, where, and what was expected."""


class ConfigError(PtystreamError):
    """A setting is missing, unknown or out of range."""


class DecodeError(PtystreamError):
    """Bytes from outside are not what they claim to be."""


class TapeError(PtystreamError):
    """A recording can't be read or written."""


class FileFormatError(PtystreamError):
    """A data or result file lacks what it should hold."""


class StoppedError(PtystreamError):
    """A peer or a process that was needed is gone."""
