#!/bin/sh
# An MP3 that is read in blocks with soundfile 0.14.0 (libsndfile 1.2.2, as its wheel bundles it) is not the MP3 that is read
# whole: after each call of SoundFile.read, soundfile asks where it is and seeks there, although it is there already. In MP3
# that seek is not without effect: the decoder starts anew in the middle of the bit reservoir and of the overlapping transform,
# and what it then gives is wrong by up to the full amplitude of the sound. With blocks of 1152 or 4096 samples most samples
# of the file are wrong, with blocks of half a second the beginning of each block. Nothing warns; length and sample rate are
# right, so that a streaming reader, a window-by-window feature extractor and SoundFile.blocks (which reads in the same way)
# all pass their checks and work on noise. The constant, average and variable bit rate modes are alike. FLAC and WAV, sought
# in the same way, are exact. A subclass whose seekable() is False is not sought in, and gives the very samples of one read.
# What to do: read MP3 whole, or through such a subclass.
#
# Needs python3 (3.10+) with venv and a package registry. Exits 0 when it behaves so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$folder"
env/bin/python - <<'PYTHON'
import sys

import numpy as np
import soundfile

RATE = 48_000


class Forwards(soundfile.SoundFile):
    def seekable(self) -> bool:
        return False


def in_blocks(opened: soundfile.SoundFile, rows: int) -> np.ndarray:
    with opened as file:
        parts = []
        while len(part := file.read(rows)):
            parts.append(part)
    return np.concatenate(parts)


print("soundfile", soundfile.__version__, "libsndfile", soundfile.__libsndfile_version__)
t = np.arange(4 * RATE) / RATE
sweep = 0.5 * np.sin(2 * np.pi * (200 * t + 400 * t * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 1.3 * t))
same = True
for name, subtype, mode in (
    ("constant.mp3", "MPEG_LAYER_III", "CONSTANT"),
    ("variable.mp3", "MPEG_LAYER_III", "VARIABLE"),
    ("sweep.flac", "PCM_16", None),
    ("sweep.wav", "PCM_16", None),
):
    with soundfile.SoundFile(name, "w", RATE, 1, subtype, bitrate_mode=mode) as file:
        file.write(sweep)
    whole, _ = soundfile.read(name)
    for rows in (1152, 4096, 24_000):
        error = np.abs(in_blocks(soundfile.SoundFile(name), rows) - whole)
        unsought = np.abs(in_blocks(Forwards(name), rows) - whole).max()
        wrong = (error > 0.01).mean()
        print(f"{name} in blocks of {rows}: off by up to {error.max():.2f}, {wrong:.0%} of samples; unsought {unsought:.2g}")
        same = same and unsought == 0.0 and ((error.max() > 0.3 and wrong > 0.05) if mode else error.max() == 0.0)
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
