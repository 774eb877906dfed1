"""Parts of Motion JPEG. The first byte says in pieces of what size they arrive."""

from __future__ import annotations

from drivers.driver import BadData
from drivers.mjpeg import MAX_PART_BYTES, PartParser

TOKENS = (b"--frame\r\n", b"\r\n\r\n", b"Content-Length: ", b"9999999999", b"\r\n--", b"--\r\n", b"X: y\r\n")


def one(data: bytes) -> None:
    """The parser, in pieces."""
    step, stream = 1 + (data[0] if data else 0) * 16, data[1:]
    parser = PartParser()
    taken = 0
    for at in range(0, len(stream), step):
        try:
            taken += sum(map(len, parser.feed(stream[at : at + step])))
        except BadData:
            continue
        assert len(parser._buffer) <= MAX_PART_BYTES
    assert taken <= len(stream)


def seeds() -> list[bytes]:
    """With and without lengths."""
    told = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 4\r\n\r\n\xff\xd8\xff\xd9\r\n"
    untold = b"--myboundary\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xd9\r\n"
    return [b"\x00" + told * 2, b"\x03" + untold * 3, b"\x40" + told + untold + told]
