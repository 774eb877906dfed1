"""Lines of numbers of IMUs. The first byte says how they are set up, the second in pieces of what size they arrive."""

from __future__ import annotations

from drivers.imu.csv import MAX_LINE_BYTES, NEEDED, CsvParser
from drivers.imu.rows import possible

TOKENS = (b"nan", b"inf", b"1e309", b"-0.0", b"\n", b"\r\n", b",", b"_", b"*00", b"9" * 40)


def one(data: bytes) -> None:
    """The parser, in pieces."""
    kind, step, stream = (data[0], 1 + data[1] % 200, data[2:]) if len(data) > 1 else (0, 1, b"")
    parser = CsvParser(
        ("t", *NEEDED) if kind & 1 else NEEDED,
        (",", " ", ";", "::")[kind >> 1 & 3],
        "g" if kind & 8 else "m/s2",
        "deg/s" if kind & 16 else "rad/s",
        "xor" if kind & 32 else "none",
    )
    for at in range(0, len(stream), step):
        assert all(possible(row) for row in parser.feed(stream[at : at + step]))
        assert len(parser._buffer) <= MAX_LINE_BYTES
    assert parser.rejected <= len(stream)


def seeds() -> list[bytes]:
    """Rows in each way of writing them."""
    line = b"0.1,-0.2,9.8,0.01,0.02,-0.03\r\n"
    return [
        b"\x00\x05\n" + line * 3,
        b"\x03\x40\n12 0.1 -0.2 9.8 1 2 3\n",
        b"\x1c\x10\n1;0;0;90;-180;1e-3\n",
        b"\x06\x10\n1::0::0::0::0::0\n",
        b"\x20\x20\n$0,0,1,0,0,0*31\r\n0,0,1,0,0,0*31\n",
    ]
