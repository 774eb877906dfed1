"""Tables of inertial rows. The first byte says which delimiter, and whether a rate is given."""

from __future__ import annotations

from agent.exchange.imu_table import ImuMedia
from agent.log.format import LogError
from fuzz import scratch

TOKENS = (
    b"t_ns",
    b"ax_g",
    b"gx_dps",
    b"nan",
    b"1e400",
    b"-",
    b"\n",
    b",,",
    b"#",
    b'"',
    b"9" * 30,
    b"1_0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
)


def one(data: bytes) -> None:
    """Read all rows."""
    kind = data[0] if data else 0
    path = scratch.file("imu.csv", data[1:])
    try:
        table = ImuMedia(path, delimiter=None if kind & 8 else ",; \t"[kind & 3], rate_hz=50.0 if kind & 4 else None)
        rows = sum(len(sample.data) for sample in table.samples(0))
    except LogError:
        return
    assert rows <= len(data)


def seeds() -> list[bytes]:
    """With and without times and names."""
    named = b"t_ns,ax_mps2,ay_mps2,az_mps2,gx_rps,gy_rps,gz_rps\n"
    rows = b"".join(b"%d,0.1,0.2,9.8,0.01,0.02,0.03\n" % (k * 10_000_000) for k in range(12))
    seconds = (
        b"t_s;ax_g;ay_g;az_g;gx_dps;gy_dps;gz_dps;note\n0.0;0;0;1;9;9;9;a\n0.01;0;0;1;9;9;9;b\n0.5;0;0;1;9;9;9;c\n"
    )
    return [b"\x00" + named + rows, b"\x01" + seconds, b"\x04" + b"0,0,9.8,0,0,0\n" * 5]
