"""Optional system packages that this machine lacks. The demo needs none of them."""

from __future__ import annotations

import ctypes.util
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Optional:
    """A system package, how it is recognised, and what goes without it."""

    package: str
    found: bool
    without: str


def optional_packages() -> list[Optional]:
    """Look for each; reads the file system only."""
    alsa_pulse = any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    gst_good = all(any(Path("/usr/lib").glob(f"*/gstreamer-1.0/libgst{name}.so")) for name in ("jpeg", "rtp"))
    gst_rtsp = any(Path("/usr/lib").glob("*/girepository-1.0/GstRtspServer-1.0.typelib"))
    return [
        Optional("libportaudio2", ctypes.util.find_library("portaudio") is not None, "microphones cannot be used"),
        Optional("pulseaudio", shutil.which("pulseaudio") is not None, "microphone tests are skipped"),
        Optional("libasound2-plugins", alsa_pulse, "microphone tests are skipped"),
        Optional(
            "ffmpeg",
            shutil.which("ffmpeg") is not None,
            "exported video is MPEG-4; camera tests are skipped",
        ),
        Optional("gir1.2-gst-rtsp-server-1.0", gst_rtsp, "RTSP camera tests are skipped"),
        Optional("gstreamer1.0-plugins-good", gst_good, "RTSP camera tests are skipped"),
        Optional("python3-gi", Path("/usr/lib/python3/dist-packages/gi").is_dir(), "RTSP camera tests are skipped"),
        Optional("g++", shutil.which("g++") is not None, "`model.compile` on a CPU is refused, its test is skipped"),
        Optional("nodejs", shutil.which("node") is not None, "the node client's test is skipped"),
        Optional("npm", shutil.which("npm") is not None, "the node client's packages cannot be installed"),
    ]
