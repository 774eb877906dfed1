#!/bin/sh
# An MCAP chunk may be compressed as more than one LZ4 or Zstandard frame: both formats say that frames which follow each
# other stand for their contents one after the other, and `lz4`, `zstd` and `pzstd` read and write them so. A good engineer
# expects of Python what gzip.decompress does: all of it. But lz4.frame.decompress (lz4 4.4.5) and
# zstandard.ZstdDecompressor().decompress (zstandard 0.25.0) return the first frame and say nothing of the rest, and
# mcap 1.6.0 calls them: of a chunk of ten messages in two frames both its readers give five, without an error, unless
# validate_crcs=True is asked for (it is False by default). gzip.decompress and lz4's own lz4.frame.open give everything.
#
# Needs python3 (3.9+) with venv, and a package registry. Exits 0 when it behaves so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mcap==1.6.0 lz4==4.4.5 zstandard==0.25.0
"$folder/env/bin/python" - <<'PYTHON'
import gzip
import io
import struct
import sys
from importlib.metadata import version

import lz4.frame
import zstandard
from mcap.opcode import Opcode
from mcap.reader import NonSeekingReader, SeekingReader
from mcap.writer import CompressionType, Writer

PACK = {"lz4": lz4.frame.compress, "zstd": zstandard.ZstdCompressor().compress}
MESSAGES = 10


def plain_log() -> bytes:
    """A log with one chunk, not compressed, of ten messages."""
    out = io.BytesIO()
    writer = Writer(out, compression=CompressionType.NONE, chunk_size=1 << 20)
    writer.start()
    channel = writer.register_channel("/numbers", "", writer.register_schema("number", "", b""))
    for number in range(MESSAGES):
        writer.add_message(channel, number, struct.pack("<Q", number), number)
    writer.finish()
    return out.getvalue()


def boundary(records: bytes) -> int:
    """Where the first record that begins in the second half stands."""
    at = 0
    while at < len(records) // 2:
        at += 9 + struct.unpack_from("<BQ", records, at)[1]
    return at


def in_two_frames(log: bytes, compression: str) -> bytes:
    """The same log, no summary; its chunk's records in two frames, as a writer that ends a frame between messages leaves them."""
    out, at = bytearray(log[:8]), 8
    while True:
        opcode, length = struct.unpack_from("<BQ", log, at)
        body = log[at + 9 : at + 9 + length]
        at += 9 + length
        if opcode == Opcode.DATA_END:
            break
        if opcode == Opcode.CHUNK:
            head = 28  # start, end, size once decompressed, CRC
            (name_length,) = struct.unpack_from("<I", body, head)
            records = body[head + 4 + name_length + 8 :]
            half = boundary(records)
            packed = PACK[compression](records[:half]) + PACK[compression](records[half:])
            name = compression.encode()
            body = body[:head] + struct.pack("<I", len(name)) + name + struct.pack("<Q", len(packed)) + packed
        elif opcode == Opcode.MESSAGE_INDEX:
            continue
        out += struct.pack("<BQ", opcode, len(body)) + body
    out += struct.pack("<BQI", Opcode.DATA_END, 4, 0)
    out += struct.pack("<BQQQI", Opcode.FOOTER, 20, 0, 0, 0) + log[:8]
    return bytes(out)


def numbers(reader: type, log: bytes, crcs: bool) -> object:
    try:
        found = reader(io.BytesIO(log), validate_crcs=crcs).iter_messages(log_time_order=False)
        return [struct.unpack("<Q", message.data)[0] for _, _, message in found]
    except Exception as error:
        return type(error).__name__


for name in ("mcap", "lz4", "zstandard"):
    print(name, version(name))

two = {name: pack(b"first ") + pack(b"second") for name, pack in PACK.items()}
with lz4.frame.open(io.BytesIO(two["lz4"])) as stream:
    opened = stream.read()
facts = {
    "gzip.decompress of two members": gzip.decompress(gzip.compress(b"first ") + gzip.compress(b"second")),
    "lz4.frame.open().read() of two frames": opened,
    "lz4.frame.decompress of two frames": lz4.frame.decompress(two["lz4"]),
    "zstandard decompress of two frames": zstandard.ZstdDecompressor().decompress(two["zstd"]),
}
log = plain_log()
facts["messages of the log, not compressed"] = numbers(SeekingReader, log, crcs=False)
for compression in PACK:
    for crcs in (False, True):
        facts[f"messages of a {compression} chunk in two frames, validate_crcs={crcs}"] = numbers(
            NonSeekingReader, in_two_frames(log, compression), crcs
        )
for what, found in facts.items():
    print(f"{what}: {found!r}")

expected = {
    "gzip.decompress of two members": b"first second",
    "lz4.frame.open().read() of two frames": b"first second",
    "lz4.frame.decompress of two frames": b"first ",
    "zstandard decompress of two frames": b"first ",
    "messages of the log, not compressed": list(range(MESSAGES)),
}
same = all(facts[what] == found for what, found in expected.items())
for compression in PACK:
    short = facts[f"messages of a {compression} chunk in two frames, validate_crcs=False"]
    same = same and isinstance(short, list) and short == list(range(len(short))) and 0 < len(short) < MESSAGES
    same = same and facts[f"messages of a {compression} chunk in two frames, validate_crcs=True"] == "CRCValidationError"
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
