"""Names that lead out of a folder: `..`, absolute names, links and pipes in what is imported, and in logs.

python -m benchmarks.faults.row32_paths
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from agent.commands.exchange import export_log, import_log
from agent.config.faults import ConfigError
from agent.log.format import LogError
from benchmarks.faults.hostile_logs import channel, facts, log, message
from benchmarks.faults.measured import Measured

SECRET = "t_s,ax,ay,az,gx,gy,gz\n" + "".join(f"{n / 100},0,0,9.81,0,0,{n % 7}\n" for n in range(200))
"""A table that could be imported, and lies outside of the folder."""
NAMES = (
    "../outside.csv",
    "./../outside.csv",
    "sub/../../outside.csv",
    "..",
    "",
    "/etc/passwd",
    "//etc/passwd",
    "link.csv",
    "links/outside.csv",
    "sub/link.csv",
    "chain.csv",
    "a.csv\0/../../outside.csv",
    "..\\outside.csv",
    "pipe.csv",
    "/dev/zero",
    "/proc/self/environ",
    "~/outside.csv",
    "{outside}",
)
SENSORS = ("../x", "..", ".", "/abs", "a/b", "a\0b", "", "x" * 65, "\x1b[31m", "-/../x")


def run() -> Measured:
    """All of it."""
    with tempfile.TemporaryDirectory() as base:
        read = [name for name in NAMES if _leads_out(Path(base), name)]
        read += [what for what, tried in LINKS.items() if tried(Path(base, "links"))]
        read += [f"sensor {name!r}" for name in SENSORS if _export_leads_out(Path(base), name)]
        tried = len(NAMES) + len(LINKS) + len(SENSORS)
        stray = sorted(path.name for path in Path(base).iterdir() if path.name not in ("media", "outside.csv", "links"))
    return Measured(
        "0 files outside of the folder are read or written; every refusal one line that names the entry",
        f"{tried} names: {len(read)} led out {read or ''}, {len(stray)} files written beside",
        not read and not stray,
    )


def _leads_out(base: Path, name: str) -> bool:
    """Whether a description got a file read that is not in its folder, or the refusal is not one line."""
    folder, outside = base / "media", base / "outside.csv"
    if not folder.exists():
        (folder / "sub").mkdir(parents=True)
        outside.write_text(SECRET)
        (folder / "link.csv").symlink_to(outside)
        (folder / "chain.csv").symlink_to("link.csv")
        (folder / "links").symlink_to(base)
        (folder / "sub" / "link.csv").symlink_to("../../outside.csv")
        os.mkfifo(folder / "pipe.csv")
    entry = name.format(outside=outside)
    (folder / "recording.yaml").write_text(yaml.safe_dump({"sensors": {"imu": {"file": entry, "modality": "imu"}}}))
    return _imported(folder, base / "out.mcap")


def _imported(source: Path, out: Path) -> bool:
    """Whether anything was imported, or the refusal is not one line."""
    try:
        import_log(source, out)
    except (LogError, ConfigError) as error:
        return "\n" in str(error) or out.exists()
    return True


def _a_table_of_times(folder: Path) -> bool:
    return _filled(folder, "a.times.csv", "imu.csv")


def _a_description(folder: Path) -> bool:
    return _filled(folder, "recording.yaml", "imu.csv")


def _a_picture(folder: Path) -> bool:
    return _filled(folder, "depth/000002.png", "depth/000001.npy")


def _part_of_a_bag(folder: Path) -> bool:
    return _filled(folder, "bag_0.db3", "metadata.yaml")


def _a_list_of_videos(folder: Path) -> bool:
    return any(_listed(folder, text) for text in LISTS)


def _listed(folder: Path, text: str) -> bool:
    """Whether a list of other files was not told from a video."""
    source = folder / "lists"
    source.mkdir(parents=True, exist_ok=True)
    (source / "camera.mp4").write_text(text)
    try:
        import_log(source, folder / "out.mcap")
    except LogError as error:
        return "not a video but text" not in str(error)
    return True


def _filled(folder: Path, link: str, beside: str) -> bool:
    """Whether a folder is read although an entry of it is a link to a file elsewhere."""
    source = folder / link.replace("/", "_")
    outside = folder / "elsewhere"
    for path in (source / link, source / beside):
        path.parent.mkdir(parents=True, exist_ok=True)
    outside.write_text("sensors: {imu: {file: imu.csv}}\n")
    (source / link).symlink_to(outside)
    (source / beside).write_text(SECRET)
    if link.startswith("a.times"):
        (source / "recording.yaml").write_text("sensors: {a: {file: a.wav, modality: audio}}\n")
        (source / "a.wav").write_bytes(b"RIFF")
    if link.startswith("depth"):
        (source / "recording.yaml").write_text("sensors: {d: {file: depth, modality: depth, rate_hz: 5}}\n")
    try:
        import_log(source, folder / "out.mcap")
    except (LogError, ConfigError) as error:
        return "link" not in str(error)
    return True


LISTS = (
    "ffconcat version 1.0\nfile other.mp4\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n../outside.mp4\n#EXT-X-ENDLIST\n",
    "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
)
"""What FFmpeg, or a build of it, takes for a video."""
LINKS: dict[str, Callable[[Path], bool]] = {
    "a table of times that is a link": _a_table_of_times,
    "a description that is a link": _a_description,
    "a picture that is a link": _a_picture,
    "a part of a bag that is a link": _part_of_a_bag,
    "a video that lists other videos": _a_list_of_videos,
}


def _export_leads_out(base: Path, name: str) -> bool:
    """Whether a log with a sensor of that name can be exported."""
    sensors = {name: {"modality": "imu", "rate_hz": 100.0, "scale": 1.0, "offset": 0.0}}
    path, out = base / "hostile.mcap", base / "exported"
    path.write_bytes(log(channel(topic=f"/sensors/{name}"), message(), run=facts(sensors=sensors)))
    try:
        export_log(path, out)
    except LogError as error:
        return "\n" in str(error) or out.exists()
    finally:
        path.unlink()
    return True


if __name__ == "__main__":
    print(run())
