"""What other machines may reach unencrypted: nothing, unless somebody says so."""

import ipaddress
import logging

from ptystream.errors import ConfigError

log = logging.getLogger(__name__)


def is_local(address: str) -> bool:
    """Tell whether only this machine reaches a ZeroMQ address, a HOST or HOST:PORT.

    A name other than ``localhost`` doesn't count: what it means can change.
    """
    transport, scheme, rest = address.rpartition("://")
    if scheme and transport != "tcp":
        return transport in ("ipc", "inproc")
    try:
        return ipaddress.ip_address(rest).is_loopback
    except ValueError:
        return _is_loopback(rest) or _is_loopback(rest.rpartition(":")[0])


def check_reach(what: str, address: str, *, insecure: bool, instead: str) -> None:
    """Refuse an unencrypted address that other machines reach.

    ``insecure`` lets it pass, with a warning; ``instead`` says what was expected.

    Raises:
        ConfigError: it isn't local, and not ``insecure``.
    """
    if is_local(address):
        return
    if not insecure:
        raise ConfigError(
            f"{what} {address}: other machines reach it, unencrypted; expected "
            f"{instead}"
        )
    log.warning("%s %s: INSECURE: open to all who reach it", what, address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
