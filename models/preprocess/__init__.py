"""From live arrays to the model's inputs: one pure function per modality, a batch at a time, on the model's device.

    vision          uint8   [B, F, H, W, 3] RGB, F = 1 or 2    -> [B, 3, 2, 224, 224]
    video           uint8   [B, clips, F, H, W, 3] RGB         -> [B, clips, 3, 2, 224, 224]
    audio           float32 [B, n, channels], +-1              -> [B, 1, 128, 204]
    audio_clips     float32 [B, n, channels], +-1              -> [B, clips, 1, 128, 204]
    depth           float32 [B, H, W] metres, 0 = invalid      -> [B, 1, 224, 224]
    thermal         float32 [B, H, W] degrees Celsius          -> [B, 1, 224, 224]
    thermal_counts  uint16  [B, H, W] raw counts               -> [B, 1, 224, 224]
    imu             float32 [B, n, 6] m/s2 and rad/s           -> [B, 6, 2000]

Inputs are NumPy arrays or tensors and are not changed; results are new, finite float32 tensors on `device`, by default
the input tensor's own, the CPU for arrays. What cannot be used raises PreprocessError, which names the items of the
batch that are at fault. Images keep their shape: the shorter side becomes 224 px and the centre is cut out; `CropMap`
leads back to the pixels of the original.
"""

from common.window_lengths import AUDIO_WINDOW_S, IMU_MAX_GAP_S, IMU_WINDOW_S
from models.extent import AUDIO_SLACK_S, CropMap
from models.preprocess.crop import ASPECT_MAX
from models.preprocess.disparity import (
    DISPARITY_MAX_PX,
    DISPARITY_MEAN,
    DISPARITY_STD,
    depth,
)
from models.preprocess.errors import PreprocessError
from models.preprocess.frames import RGB_MEAN, RGB_STD, video, vision
from models.preprocess.motion import (
    IMU_AXES,
    IMU_RATE_HZ,
    imu,
    imu_real_steps,
)
from models.preprocess.spectrogram import (
    AUDIO_MEAN,
    AUDIO_RATE_HZ,
    AUDIO_STD,
    audio,
    audio_clips,
)
from models.preprocess.temperature import THERMAL_HIGH_C, THERMAL_LOW_C, thermal, thermal_counts

__all__ = [
    "ASPECT_MAX",
    "AUDIO_MEAN",
    "AUDIO_RATE_HZ",
    "AUDIO_SLACK_S",
    "AUDIO_STD",
    "AUDIO_WINDOW_S",
    "DISPARITY_MAX_PX",
    "DISPARITY_MEAN",
    "DISPARITY_STD",
    "IMU_AXES",
    "IMU_MAX_GAP_S",
    "IMU_RATE_HZ",
    "IMU_WINDOW_S",
    "RGB_MEAN",
    "RGB_STD",
    "THERMAL_HIGH_C",
    "THERMAL_LOW_C",
    "CropMap",
    "PreprocessError",
    "audio",
    "audio_clips",
    "depth",
    "imu",
    "imu_real_steps",
    "thermal",
    "thermal_counts",
    "video",
    "vision",
]
