"""The options of every driver, by kind of device. Where no device is at hand its library is stood in for."""

from __future__ import annotations

from every_key import Rows
from every_key.devices import cameras, planes, remote, serial_imus, sound, synthetic

ROWS: Rows = {
    **cameras.ROWS,
    **sound.ROWS,
    **planes.ROWS,
    **serial_imus.ROWS,
    **remote.ROWS,
    **synthetic.ROWS,
}
