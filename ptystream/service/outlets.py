"""The outlets that a configuration may ask for, built of its plain values."""

from pathlib import Path

from ptystream.publish.documents_live import DocumentSink
from ptystream.publish.exposure import check_reach
from ptystream.publish.pva import PvaServer, PvaSink
from ptystream.publish.sink import Sink
from ptystream.publish.tiled_sink import TiledSink
from ptystream.service.curve import curve_keys
from ptystream.settings import PublishSettings

PVA_EXPECTED = "loopback, or publish.insecure = true: PVAccess knows no encryption"


def pva_server(publish: PublishSettings) -> PvaServer | None:
    """Return the PVAccess server, not yet open; ConfigError without its extra."""
    p = publish.pva
    if p is None:
        return None
    where = "publish.pva.interface"
    check_reach(where, p.interface, insecure=publish.insecure, instead=PVA_EXPECTED)
    return PvaServer(p.prefix, p.interface, p.port, p.broadcast_port)


def outlets(publish: PublishSettings, pva: PvaServer | None) -> list[Sink]:
    """Return documents, Tiled and PVAccess, those asked for; ConfigError as above."""
    sinks: list[Sink] = []
    if publish.documents:
        prefix = publish.documents_prefix.encode()
        curve = curve_keys(publish.documents_curve, {})
        sinks.append(DocumentSink(publish.documents, prefix, curve=curve))
    if publish.tiled is not None:
        t = publish.tiled
        sinks.append(
            TiledSink(
                t.uri,
                t.path,
                None if t.key_file is None else Path(t.key_file),
                t.every_s,
                t.full_every_s,
                t.preview_px,
                t.max_mib,
            )
        )
    if pva is not None and publish.pva is not None:
        sinks.append(PvaSink(pva.post, publish.pva.max_px))
    return sinks
