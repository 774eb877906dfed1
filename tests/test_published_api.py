"""The published interface: its numbers, its example, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from reference_model import REFERENCE, small_model
from safetensors.torch import load_file
from torch import Tensor

from common.media.fault import MediaError
from models.files import checkpoint
from models.files.description import CheckpointError
from models.imagebind import ImageBind, InputError
from models.interop import published_api
from models.interop.published_api import (
    ImageBindModel,
    ModalityType,
    imagebind_huge,
    load_and_transform_audio_data,
    load_and_transform_text,
    load_and_transform_video_data,
    load_and_transform_vision_data,
)
from models.preprocess import RGB_MEAN, RGB_STD

MEDIA = Path(__file__).parent / "data" / "media"
PAGE = Path(__file__).parents[1] / "docs" / "published-api.md"


@pytest.fixture(scope="module")
def small() -> ImageBind:
    return small_model()


@pytest.fixture(scope="module")
def model(small: ImageBind) -> ImageBindModel:
    return ImageBindModel(small)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(REFERENCE / "small_io.safetensors")


@pytest.fixture
def huge_in_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: ImageBind) -> None:
    """A store in which the small model goes by the name of the published one."""
    monkeypatch.setenv("SENSEBIND_WEIGHTS", str(tmp_path / "store"))
    folder = tmp_path / "store" / "imagebind-huge" / "1"
    folder.mkdir(parents=True)
    tensors = small.state_dict()
    for m in small.modalities:
        file = folder / f"{m}.safetensors"
        checkpoint.write(file, small.sizes, [m], tensors.__getitem__, torch.float32, {"model": "small"})


@pytest.mark.parametrize("name", ["vision_video", "audio_clips", "depth", "thermal", "imu", "text"])
def test_outputs_are_the_published_ones(model: ImageBindModel, reference: dict[str, Tensor], name: str) -> None:
    modality = name.partition("_")[0]
    with torch.no_grad():
        out = model({modality: reference[f"input.{name}"]})[modality]  # type: ignore[dict-item]
    assert (out - reference[f"output.{name}"]).abs().max() <= 2e-5


def test_clips_are_averaged_after_scaling_and_stay_short(model: ImageBindModel, reference: dict[str, Tensor]) -> None:
    clips = reference["input.audio_clips"]
    with torch.no_grad():
        mean = model({"audio": clips})["audio"]
        each = model({"audio": clips[0]})["audio"]
    torch.testing.assert_close(mean[0], each.mean(dim=0))
    torch.testing.assert_close(each.norm(dim=-1), torch.full((len(each),), 20.0))
    assert mean.norm() < 20.0 - 1e-4


def test_still_images_can_be_clips(model: ImageBindModel) -> None:
    torch.manual_seed(0)
    stills = torch.randn(2, 3, 3, 224, 224)  # two items of three stills
    with torch.no_grad():
        out = model({"vision": stills})["vision"]
        first = model({"vision": stills[0]})["vision"]
    torch.testing.assert_close(out[0], first.mean(dim=0))


def test_two_frames_are_not_clips(model: ImageBindModel) -> None:
    torch.manual_seed(0)
    frames = torch.randn(1, 3, 2, 224, 224)
    with torch.no_grad():
        out = model({"vision": frames})["vision"]
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(1))


def test_inputs_of_no_clips_are_named(model: ImageBindModel) -> None:
    with pytest.raises(InputError, match=r"audio: shape \(1, 0, 1, 128, 204\)"):
        model({"audio": torch.zeros(1, 0, 1, 128, 204)})


def test_modality_type_has_the_published_values() -> None:
    names = {name: value for name, value in vars(ModalityType).items() if name.isupper()}
    assert names == {n: n.lower() for n in ("VISION", "TEXT", "AUDIO", "THERMAL", "DEPTH", "IMU")}


def test_texts() -> None:
    texts = json.loads((REFERENCE / "texts.json").read_text())
    tokens = load_and_transform_text([text["text"] for text in texts], "cpu")
    assert tokens is not None
    for row, text in zip(tokens, texts, strict=True):
        assert row[: len(text["ids"])].tolist() == text["ids"]
        assert not row[len(text["ids"]) :].any()


def test_images() -> None:
    names = {"landscape": "landscape_224", "portrait": "portrait_224", "tiny": "tiny_224", "square": "square"}
    images = load_and_transform_vision_data([REFERENCE / f"{name}.png" for name in names], "cpu")
    assert images is not None
    assert images.shape == (4, 3, 224, 224)
    for image, expected in zip(images, names.values(), strict=True):
        pixels = torch.from_numpy(np.array(Image.open(REFERENCE / f"{expected}.png").convert("RGB"))) / 255
        target = ((pixels - torch.tensor(RGB_MEAN)) / torch.tensor(RGB_STD)).permute(2, 0, 1)
        assert (image - target).abs().mean() <= 0.01
        assert (image - target).abs().max() <= 0.15


def test_sounds() -> None:
    expected = load_file(REFERENCE / "audio.safetensors")
    paths = [str(REFERENCE / f"{name}.flac") for name in ("mono16k_1p2s", "stereo44k_3p3s")]
    clips = load_and_transform_audio_data(paths, "cpu")
    assert clips is not None
    assert clips.shape == (2, 3, 1, 128, 204)
    for found, target in ((clips[0, 0], expected["mono16k_1p2s"]), (clips[1, 1], expected["stereo44k_3p3s"])):
        difference = (found - target[0]).abs()
        audible = target[0] > target.max() - 8 * np.log(10) / 9.138  # 80 dB: below it is each CPU's rounding
        assert difference[audible].max() <= 1e-4
        assert difference.max() <= 1e-3
    one = load_and_transform_audio_data(paths, "cpu", clips_per_video=1)
    assert one is not None
    torch.testing.assert_close(one[:, 0], clips[:, 0])


@pytest.mark.parametrize("name", ["landscape.mp4", "portrait_varying_rate.mkv"])
def test_videos(name: str) -> None:
    expected = load_file(MEDIA / "video.safetensors")[name.partition(".")[0]]
    videos = load_and_transform_video_data([MEDIA / name], "cpu")
    assert videos is not None
    assert videos.shape == (1, 15, 3, 2, 224, 224)
    difference = (videos[0, ..., 8::24, 8::24] - expected).abs()
    assert difference.mean() <= 0.01
    assert difference.max() <= 0.15
    fewer = load_and_transform_video_data([MEDIA / name], "cpu", clips_per_video=1)
    assert fewer is not None
    assert torch.equal(fewer, videos[:, :3])


def test_video_frames_are_resized_and_cut_as_published() -> None:
    rows = torch.arange(230, dtype=torch.uint8).view(1, 230, 1, 1).expand(2, 230, 224, 3)
    top, middle, bottom = published_api._three_squares(rows)[:, 0, 1, :, 7] * RGB_STD[0] + RGB_MEAN[0]
    # In floats 230 / 224 * 224 is below 230: a row is lost. Of the 5 that 229 has too many the middle leaves out 3.
    levels = ((torch.arange(229) + 0.5) * 230 / 229 - 0.5) / 255
    for square, first in ((top, 0), (middle, 3), (bottom, 5)):
        torch.testing.assert_close(square, levels[first : first + 224], atol=1e-5, rtol=0)


def test_nothing_stays_nothing() -> None:
    assert load_and_transform_text(None, "cpu") is None
    assert load_and_transform_vision_data(None, "cpu") is None
    assert load_and_transform_audio_data(None, "cpu") is None
    assert load_and_transform_video_data(None, "cpu") is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_and_transform_audio_data(["x"], "cpu", num_mel_bins=64), "num_mel_bins is 64; only 128 is"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", target_length=512), "target_length is 512; only 204"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", sample_rate=48000), "sample_rate is 48000; only 16000"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", clip_duration=5), "clip_duration is 5; only 2 is"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", mean=0.0), r"mean is 0.0; only -4.268 is"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", std=1.0), r"std is 1.0; only 9.138 is"),
        (lambda: load_and_transform_audio_data(["x"], "cpu", clips_per_video=0), "clips_per_video is 0; it must be"),
        (lambda: load_and_transform_video_data(["x"], "cpu", clip_duration=4), "clip_duration is 4; only 2 is"),
        (lambda: load_and_transform_video_data(["x"], "cpu", clips_per_video=-1), "clips_per_video is -1"),
        (lambda: load_and_transform_vision_data([], "cpu"), r"image_paths is \[\]; give a list"),
        (lambda: load_and_transform_vision_data("dog.jpg", "cpu"), "image_paths is 'dog.jpg'; give a list"),
        (lambda: load_and_transform_video_data(Path("a"), "cpu"), "video_paths is .*; give a list"),  # type: ignore[arg-type]
        (lambda: load_and_transform_text("A dog.", "cpu"), "text is 'A dog.'; give a list"),
    ],
)
def test_what_is_not_supported_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_file_of_no_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none.png: no such file"):
        load_and_transform_vision_data([REFERENCE / "tiny.png", tmp_path / "none.png"], "cpu")
    Image.new("RGB", (700, 20)).save(tmp_path / "long.png")
    with pytest.raises(MediaError, match=r"long.png: image: 20 x 700 is too long"):
        load_and_transform_vision_data([tmp_path / "long.png"], "cpu")
    soundfile.write(tmp_path / "blip.wav", np.zeros(100, np.float32), 16000)
    with pytest.raises(MediaError, match=r"blip.wav: waveform: 100 samples"):
        load_and_transform_audio_data([tmp_path / "blip.wav"], "cpu")


def test_an_exif_turn_is_not_made(tmp_path: Path) -> None:
    pixels = Image.open(REFERENCE / "landscape.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    pixels.save(tmp_path / "turned.png", exif=exif)
    images = load_and_transform_vision_data([REFERENCE / "landscape.png", tmp_path / "turned.png"], "cpu")
    assert images is not None
    assert torch.equal(images[0], images[1])


@pytest.mark.usefixtures("huge_in_store")
def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i, thing in enumerate(("dog", "car", "bird")):
        Image.fromarray(rng.integers(0, 256, (240 + 16 * i, 320, 3), np.uint8)).save(f"{thing}.jpg")
        noise = rng.normal(0, 0.1, (48000 + 8000 * i, 2)).astype(np.float32)
        soundfile.write(f"{thing}.wav", noise, 16000 * (i + 1))
    source = re.search(r"```python\n(import torch\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert source is not None
    names: dict[str, object] = {}
    exec(source[1], names)
    embeddings = names["embeddings"]
    assert isinstance(embeddings, dict)
    shapes = {modality: tuple(vectors.shape) for modality, vectors in embeddings.items()}
    assert shapes == {"text": (3, 48), "vision": (3, 48), "audio": (3, 48)}
    titles = [line.partition(" tensor")[0] for line in capsys.readouterr().out.splitlines() if "tensor" in line]
    assert titles == ["VISION x TEXT", "AUDIO x TEXT", "VISION x AUDIO"]


@pytest.mark.usefixtures("huge_in_store")
def test_pretrained_weights_come_from_the_store(reference: dict[str, Tensor]) -> None:
    model = imagebind_huge(pretrained=True)
    assert not model.training
    with torch.no_grad():
        out = model({ModalityType.DEPTH: reference["input.depth"]})[ModalityType.DEPTH]
    assert (out - reference["output.depth"]).abs().max() <= 2e-5


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSEBIND_WEIGHTS", str(tmp_path))
    with pytest.raises(CheckpointError, match="sensebind weights fetch imagebind-huge"):
        imagebind_huge(pretrained=True)


def test_huge_without_weights_has_the_published_size() -> None:
    with torch.device("meta"):
        model = imagebind_huge()
    assert isinstance(model, ImageBindModel)
    assert sum(p.numel() for p in model.parameters()) == 1_200_781_057


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    for load, paths in (
        (published_api.load_and_transform_vision_data, [REFERENCE / "landscape.png"]),
        (published_api.load_and_transform_audio_data, [REFERENCE / "stereo44k_3p3s.flac"]),
        (published_api.load_and_transform_video_data, [MEDIA / "landscape.mp4"]),
    ):
        here, there = load(paths, "cpu"), load(paths, "cuda")
        assert here is not None
        assert there is not None
        assert there.is_cuda
        assert (there.cpu() - here).abs().mean() <= 0.01
    small = small_model()
    video = load_and_transform_video_data([MEDIA / "landscape.mp4"], "cuda")
    assert video is not None
    with torch.no_grad():
        on_gpu = ImageBindModel(small).to("cuda").eval()({"vision": video})["vision"].cpu()
        on_cpu = ImageBindModel(small).to("cpu")({"vision": video.cpu()})["vision"]
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-2, rtol=0)
