"""Settings to CURVE keys: whose sockets we open, and who may open ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ptystream.settings import CurveSettings, ServerCurveSettings
from ptystream.wire.curve import (
    Admission,
    ClientKeys,
    admission,
    client_keys,
    environment_keys,
)


def curve_keys(
    settings: CurveSettings | Literal["env"] | None, variables: Mapping[str, str]
) -> ClientKeys | None:
    """Return the keys that the settings name; None: unencrypted.

    Raises:
        ConfigError: a key is missing, is none, or may be read by others.
    """
    if settings is None:
        return None
    if settings == "env":
        return environment_keys(variables)
    files = settings.server_key_file, settings.client_secret_file
    return client_keys(*map(Path, files))


def server_admission(settings: ServerCurveSettings | None) -> Admission | None:
    """Return our own keys and who may come in; None: unencrypted.

    Raises:
        ConfigError: as ``curve_keys``, or others may write the lists.
    """
    if settings is None:
        return None
    files = settings.secret_file, settings.readers, settings.controllers
    return admission(*map(Path, files))
