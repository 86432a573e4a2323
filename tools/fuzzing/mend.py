"""Checksums of a tape made right again, so that a fuzzer gets past them."""

import struct
from zlib import crc32

from ptystream.tape import format as fmt

_CRC = struct.Struct("<I")
_FIELDS = struct.Struct("<IIHHQQ")
_MOST = 64


def mended(tape: bytes) -> bytes:
    """Return the tape with right checksums in its header and first 64 records."""
    out = bytearray(tape)
    if len(out) >= fmt.PREAMBLE.size:
        magic, version, size, _ = fmt.PREAMBLE.unpack_from(out)
        text = out[fmt.PREAMBLE.size : fmt.PREAMBLE.size + size]
        fmt.PREAMBLE.pack_into(out, 0, magic, version, size, crc32(text))
    at = out.find(fmt.SYNC)
    for _ in range(_MOST):
        if at < 0 or at + fmt.HEAD_BYTES > len(out):
            break
        _mend_record(out, at)
        at = out.find(fmt.SYNC, at + fmt.HEAD_BYTES)
    return bytes(out)


def _mend_record(out: bytearray, at: int) -> None:
    fields = at + fmt.HEAD_BYTES - _FIELDS.size
    _, body, name, parts, _, _ = _FIELDS.unpack_from(out, fields)
    start = at + fmt.HEAD_BYTES
    front = start + name + 4 * parts
    _CRC.pack_into(out, fields, crc32(out[front : start + body]))
    seed = crc32(at.to_bytes(8, "little"))
    _CRC.pack_into(out, fields - _CRC.size, crc32(out[fields:front], seed))
