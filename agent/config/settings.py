"""The shape of the configuration file: every key, its type, its default and what it is for. `parse` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, create_model

from agent.address import DEFAULT_ADDRESS
from agent.config.known_arrays import KNOWN_ARRAYS
from agent.query import FIELDS, MAX_TEXT
from agent.streams import MAX_SENSORS
from common.window_lengths import AUDIO_WINDOW_S, FRAMES_APART_S, IMU_WINDOW_S
from drivers.driver import BLOCK_S, Modality
from drivers.forms import MAX_RATE_HZ, MIN_RATE_HZ

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]

MAX_QUERIES = 256
"""Number of queries that the server accepts."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelSettings(_Strict):
    """Weights, device and precision of the model."""

    weights: str = "imagebind_nano"
    """`imagebind_nano` (shipped), a name that `sensebind weights list` shows, such as `imagebind-huge`, or a file."""
    device: Device = "auto"
    dtype: Dtype = "float32"
    """float16 needs a GPU."""
    compile: bool = False
    """Compile the towers at their first windows: some seconds each, and a C++ compiler on a CPU."""
    cuda_graphs: bool = False
    """Replay a window's kernels as one CUDA graph, which spares launching them one by one; needs a GPU."""
    process: bool | None = None
    """Run the model in a process of its own, which is started again when it ends or hangs. By itself: on a GPU only."""
    leave_out: bool = True
    """Live: when the model cannot keep up, leave out windows in a stated order, so that events are recent. Without it
    every embedded tick is complete, and late."""


class ServerSettings(_Strict):
    """Addresses of the server."""

    listen: str = DEFAULT_ADDRESS
    insecure: bool = False
    """Allow an address other than loopback, without TLS."""
    health_listen: str = ""
    """A second address, for health and GetStatus alone: it has connections of its own, and answers whatever is full."""


class WindowSettings(_Strict):
    """Reach of a window into the past, in seconds; ImageBind was trained on the defaults of audio and IMU."""

    hop_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    vision_s: Annotated[float, Field(ge=0, le=10)] = FRAMES_APART_S
    """Distance of the two frames of a window."""
    audio_s: Annotated[float, Field(ge=0.5, le=10)] = float(AUDIO_WINDOW_S)
    imu_s: Annotated[float, Field(ge=IMU_WINDOW_S, le=10)] = float(IMU_WINDOW_S)


class SensorSettings(_Strict):
    """Keys of a sensor that the agent uses, rather than its driver."""

    type: str
    hfov_deg: Annotated[float, Field(ge=4, lt=180)] | None = None
    """Horizontal field of view of a camera: lets a direction of arrival be compared with the picture. Below 4 are
    radians.
    """
    mic_positions_m: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat]] | None = None
    """Positions of the microphones, one x, y, z per channel; x forward, y left, z up."""
    mic_array: Literal[tuple(KNOWN_ARRAYS)] | None = None  # type: ignore[valid-type]
    """Name of a microphone array, in place of its positions and channels."""
    max_lateness_s: Annotated[float, Field(ge=0, le=10)] = 0.2
    queue_depth: Annotated[int, Field(ge=2, le=4096)] | None = None
    logged: bool = True


class StreamOptions(BaseModel):
    """Options of any driver that the streams table needs; the limits are those of any log."""

    rate_hz: Annotated[float, Field(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)] | None = None
    width: Annotated[int, Field(ge=1, le=65_535)] | None = None
    height: Annotated[int, Field(ge=1, le=65_535)] | None = None
    channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    use_channels: Annotated[tuple[int, ...], Field(min_length=1, max_length=1024)] | None = None
    block_ms: Annotated[float, Field(ge=0.01, le=60_000)] = 1e3 * BLOCK_S
    modality: Modality | None = None


def _query_fields() -> dict[str, Any]:
    """The fields of a query, each of which but the text may be left out or null."""
    types = {name: list[Modality] if name == "modalities" else of.type for name, of in FIELDS.items()}
    return {name: (kind, ...) if name == "text" else (kind | None, None) for name, kind in types.items()}


if TYPE_CHECKING:
    QuerySettings = _Strict
else:
    QuerySettings = create_model("QuerySettings", __base__=_Strict, **_query_fields())
    QuerySettings.__doc__ = """A query that stands from the start, by the fields of `agent.query.Query`."""


class RecordingSettings(_Strict):
    """Recordings, by `sensebind record` and, with a `folder`, by `sensebind run` as well."""

    folder: str | None = None
    """Folder to which `run` records continuously; without it only `record` records."""
    split_mb: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """A file that has grown to this is followed by another."""
    split_s: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """Seconds of capture time in one file."""
    keep_gb: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Budget of all logs in the folder: the oldest goes first, those called `*.keep.mcap` never."""
    keep_days: Annotated[float, Field(gt=0, le=1e5)] | None = None
    min_free_mb: Annotated[float, Field(ge=0, le=1e6)] = 64.0
    """Free space below which recording stops; it resumes when there is room."""
    colour: Literal["jpeg", "png", "raw"] = "jpeg"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    plane: Literal["png", "raw"] = "png"
    """Format of depth and thermal: 16-bit counts, or float32."""
    compression: dict[str, Literal["lz4", "none"]] = {}
    """Compression by sensor, or `events`; pictures do not compress."""
    imu_plot_hz: Annotated[float, Field(ge=0, le=MAX_RATE_HZ)] = 100.0
    """IMU rows a second that are stored as plain numbers as well, for the plots of viewers, at most; 0: none."""


class ClipSettings(_Strict):
    """Clips of queries with `clip: true`: small logs of their own, also when nothing else is recorded."""

    folder: str | None = None
    """Folder of the clips; without it no query may ask for one, and nothing is held in memory."""
    before_s: Annotated[float, Field(ge=0, le=300)] = 10.0
    after_s: Annotated[float, Field(ge=0, le=300)] = 10.0
    memory_mb: Annotated[float, Field(ge=1, le=16_384)] = 64.0
    """Memory for the samples before an alert; when they need more, clips begin later."""
    keep_gb: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Budget of the folder: the oldest goes first, those called `*.keep.mcap` never."""


class AlertSettings(_Strict):
    """Scoring of queries: patches of pictures, and factors on cosines."""

    dense: bool = False
    """Score a picture by the best of the whole and its patches, so that a small thing beside a large one counts.
    For models whose patches were trained for it, as imagebind_nano's were."""
    logit_scales: dict[Modality, Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)]] = {}
    """Overrides of the model's own factors on cosines, per modality."""


class LocalizationSettings(_Strict):
    """Sensors that find the audio source; by default the only camera and the only microphone."""

    camera: str | None = None
    microphone: str | None = None


Prompt = Annotated[str, Field(max_length=MAX_TEXT)]


class Settings(_Strict):
    """The whole configuration file."""

    model: ModelSettings = ModelSettings()
    server: ServerSettings = ServerSettings()
    windows: WindowSettings = WindowSettings()
    sensors: Annotated[dict[str, dict[str, Any]], Field(max_length=MAX_SENSORS)]
    queries: Annotated[list[QuerySettings], Field(max_length=MAX_QUERIES)] = []
    background_prompts: Annotated[list[Prompt], Field(max_length=MAX_QUERIES)] | None = None
    alerts: AlertSettings = AlertSettings()
    localization: LocalizationSettings = LocalizationSettings()
    record: RecordingSettings = RecordingSettings()
    clips: ClipSettings = ClipSettings()
