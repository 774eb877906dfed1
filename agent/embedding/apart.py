"""The model in a process of its own, as the rest of the agent sees it: an `agent.embedding.model.Model`."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.clock import RunClock
from agent.config.settings import ModelSettings
from agent.embedding.budget import Budget
from agent.embedding.condition import patience_s
from agent.embedding.keeper import LOADING_S, Keeper
from agent.embedding.model import Embedded
from agent.embedding.requests import Pictures, Read, Request, Sound, Sounds, Texts
from agent.embedding.wire import Answer, Embed, Sent, embedded_of, pack_request, raised
from agent.embedding.worker import ModelGone
from agent.faults import Faults
from agent.vectors import Vectors
from agent.windows.window import Tick
from drivers.driver import Modality
from models.files.calibration import Calibration
from models.vocabulary import Reading

KILLED_TIMES = 2.0
"""A process that has not come back for so many times as long as what counts as hung is killed."""
FIRST_S = 60.0
"""At least, until it has embedded its first tick: kernels are loaded and chosen."""
COMPILING_S = 300.0
"""At least, for any, when towers are compiled at their first windows."""
TRIES = 3
"""Of what must not be lost, each in another process."""
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA's driver, of Windows' under Linux, and of AMD's."""


def runs_apart(settings: ModelSettings) -> bool:
    """Return whether the model gets a process of its own: as configured, else where it runs on a GPU. Imports
    no torch.
    """
    if settings.process is not None:
        return settings.process
    has_gpu = any(Path(file).exists() for file in GPU_FILES)
    return settings.device == "cuda" or (settings.device == "auto" and has_gpu)


class SwallowedThere(Exception):
    """A fault in the model's process that cost only what caused it."""


class ModelApart:
    """Loads the model in a process of its own, and asks it. One thread at a time; `gone` and `close` for any.

    When the process ends, or does not come back, another one is started. What is asked meanwhile raises ModelGone; with
    `lossless` it waits for the next process, and so does what the last one did not answer.
    """

    def __init__(
        self,
        settings: ModelSettings,
        modalities: Collection[Modality],
        *,
        lossless: bool = False,
        faults: Faults | None = None,
    ) -> None:
        """Wait until it is loaded. Raises CheckpointError, DeviceError, RunnerError and StartError.

        What fails in preprocessing is counted in `faults`.
        """
        self._clock = RunClock.start()
        self._faults = faults or Faults()
        self._tries = TRIES if lossless else 1
        self._inference_ms: deque[float] = deque(maxlen=100)
        self._least_s = COMPILING_S if settings.compile else 0.0
        self._warm: int | None = None
        """The process that has embedded ticks."""
        self._keeper = Keeper(settings, modalities, self._clock)
        hello = self._keeper.start()
        self.name = str(hello["name"])
        self.device = str(hello["device"])
        self.dimensions = int(hello["dimensions"])
        self._logit_scales: dict[Modality, float] = hello["logit_scales"]
        tree = hello["calibration"]
        self.calibration = None if tree is None else Calibration.of_tree(tree)

    @property
    def gone(self) -> str:
        """Reason for taking no requests at present, one line; empty when it takes them."""
        return self._keeper.gone

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._keeper.pid

    def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
        """As `Embedder.embed`; raises ModelGone as well, and ValueError for ticks that are too large to be sent."""
        results = embedded_of(self._ask(Embed(ticks, budget), ticks=len(ticks)), ticks)
        self._inference_ms.extend(one.inference_ms for one in results)
        self._warm = self._keeper.pid
        return results

    def embed_texts(self, texts: Sequence[str], modality: Modality | None = None) -> Vectors:
        """Unit vectors [n, D] of texts."""
        return self._ask(Texts(texts, modality)).arrays[0]

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Unit vectors [n, D] of RGB images [H, W, 3]. Raises ValueError for those that cannot be used."""
        return self._ask(Pictures(images)).arrays[0]

    def embed_audio(self, recordings: Sequence[Sound]) -> Vectors:
        """Unit vectors [n, D] of sounds. Raises ValueError for those that cannot be used."""
        return self._ask(Sounds(recordings)).arrays[0]

    def read(self, text: str) -> Reading:
        """Read a text in the words that the weights were trained on."""
        return Reading.of(self._ask(Read(text)).value)

    def logit_scales(self, overrides: Mapping[Modality, float] | None = None) -> dict[Modality, float]:
        """The factor on the cosine of a window and a text, per modality."""
        return {**self._logit_scales, **(overrides or {})}

    def close(self) -> None:
        """End the process; may be called again, and by any thread."""
        self._keeper.close()

    def _ask(self, asked: Embed | Request, ticks: int = 1) -> Answer:
        for tries_left in reversed(range(self._tries)):
            try:
                return self._ask_once(asked, ticks)
            except ModelGone:
                if not tries_left or not self._keeper.wait_ready(LOADING_S):
                    raise
        raise AssertionError("it is tried once at least")

    def _ask_once(self, asked: Embed | Request, ticks: int) -> Answer:
        request = pack_request(Sent(asked, self._clock.now_ns()))
        least_s = self._least_s if self._keeper.pid == self._warm else max(FIRST_S, self._least_s)
        answer = self._keeper.ask(request, max(least_s, KILLED_TIMES * patience_s(tuple(self._inference_ms), ticks)))
        for place, count, first in answer.faults:
            for _ in range(count):
                self._faults.count(place, SwallowedThere(first))
        if answer.trouble:
            raise raised(answer)
        return answer
