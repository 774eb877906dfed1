"""`sensebind embed`: what it prints and writes, against the published interface, and what it refuses in one line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from running_agent import DEADLINE_S, SENSEBIND

from agent.commands.embed import embed
from agent.exchange.imu_table import COLUMNS
from agent.lab.similarities import SimilarityError
from common.media.fault import MediaError
from drivers.driver import DriverError
from drivers.image_file import write_png
from drivers.png import read_png16
from models import preprocess
from models.arithmetic import CombinationError
from models.files import checkpoint, store
from models.files.description import CheckpointError
from models.imagebind import imagebind_nano
from models.interop import published_api
from models.interop.published_api import ImageBindModel
from world.scene import Scene, SceneOptions

DATA = Path(__file__).parent / "data"
IMAGES = [str(DATA / "reference" / f"{name}.png") for name in ("landscape", "portrait")]
SOUND = str(DATA / "reference" / "mono16k_1p2s.flac")
VIDEO = str(DATA / "media" / "landscape.mp4")
TEXTS = ["a dog barking", "rain", "the robot is falling"]


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The JSON that `embed` prints."""

    def run(*args: Any, **options: Any) -> dict[str, Any]:
        embed(*args, **{"scored": False, **options}, as_json=True, device="cpu")
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)
        return printed

    return run


def test_tables_hold_the_softmax_of_the_published_products(document: Callable[..., dict[str, Any]]) -> None:
    found = document({"text": TEXTS, "image": IMAGES, "audio": [SOUND], "video": [VIDEO]})
    model = ImageBindModel(checkpoint.load(store.find("imagebind_nano")))
    with torch.no_grad():
        raw = model(
            {
                "text": published_api.load_and_transform_text(TEXTS, "cpu"),
                "vision": published_api.load_and_transform_vision_data(IMAGES, "cpu"),
                "audio": published_api.load_and_transform_audio_data([SOUND], "cpu"),
            }
        )
        video = model({"vision": published_api.load_and_transform_video_data([VIDEO], "cpu")})["vision"]
    raw["vision"] = torch.cat([raw["vision"], video])
    assert [(t["rows"], t["columns"]) for t in found["tables"]] == [
        ("vision", "text"),
        ("audio", "text"),
        ("vision", "audio"),
    ]
    for table in found["tables"]:
        products = raw[table["rows"]] @ raw[table["columns"]].T
        torch.testing.assert_close(torch.tensor(table["products"]), products, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(table["softmax"]), products.softmax(dim=-1), atol=1e-4, rtol=1e-4)
    assert found["tables"][0]["row_names"] == [*IMAGES, VIDEO]
    assert found["tables"][0]["column_names"] == TEXTS
    given = [(i["kind"], i["modality"], i["name"]) for i in found["inputs"]]
    assert given == [
        *(("text", "text", text) for text in TEXTS),
        *(("image", "vision", image) for image in IMAGES),
        ("video", "vision", VIDEO),
        ("audio", "audio", SOUND),
    ]
    vectors = torch.tensor([i["vector"] for i in found["inputs"]])
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(given)))
    torch.testing.assert_close(vectors[:3], torch.nn.functional.normalize(raw["text"], dim=-1), atol=1e-5, rtol=0)


def test_people_get_tables_and_warnings_beside_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    embed({"text": ["a dog", "zebra [dog]"], "image": IMAGES[:1]}, combination="text:rain", device="cpu")
    out, err = capsys.readouterr()
    assert "Vision x Text: cosine" in out
    assert "Vision x Text: score as in alerts, 0 to 1" in out
    assert "zebra [dog]" in out  # brackets are no markup
    assert "note" not in out
    assert err.splitlines() == [
        "sensebind: note: imagebind_nano is a toy that knows thirteen kinds of things of a synthetic world; for real "
        "pictures, recordings and words: --weights imagebind-huge",
        "sensebind: warning: the model was never trained on: zebra",
    ]
    nearest_first = [float(line.split("│")[3]) for line in out.rpartition("cosine")[2].splitlines() if "│" in line]
    assert len(nearest_first) == 3
    assert nearest_first == sorted(nearest_first, reverse=True)


def test_one_text_alone_says_whether_it_fits(document: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """A softmax over one column would be 1 for any picture."""
    scene, frame = Scene(SceneOptions(seed=620, width=224, height=224)), 270
    fire = scene.truth(frame / 10).thing("fire")
    assert fire is not None
    assert fire.visible > 0.9
    assert not scene.truth(frame / 10).in_view("dog")
    (tmp_path / "fire.png").write_bytes(write_png(scene.image(frame)))
    for text, fits in (("a bonfire", True), ("a dog", False)):
        (table,) = document({"text": [text], "image": [str(tmp_path / "fire.png")]}, scored=True)["tables"]
        assert table["softmax"] == [[1.0]]
        assert (table["scores"][0][0] > 0.6) is fits
    inputs = document({"text": ["a dog " + 2000 * "x"], "image": IMAGES}, scored=True)  # no query may be so long
    (table,) = inputs["tables"]
    assert np.isfinite(table["scores"]).all()
    vectors = np.array([i["vector"] for i in inputs["inputs"]])
    np.testing.assert_allclose(table["cosines"], vectors[1:] @ vectors[:1].T, atol=1e-5)
    assert document({"text": ["a dog"], "image": IMAGES})["tables"][0]["scores"] is None


def test_a_combination_is_the_papers_arithmetic(document: Callable[..., dict[str, Any]]) -> None:
    inputs = {"text": TEXTS, "image": IMAGES}
    found = document(inputs, combination=f"0.5*image:{IMAGES[0]} - 2*text:'{TEXTS[1]}' + audio:{SOUND}")
    alone = document({**inputs, "audio": [SOUND]})
    unit = {i["name"]: np.array(i["vector"]) for i in alone["inputs"]}
    total = 0.5 * unit[IMAGES[0]] - 2 * unit[TEXTS[1]] + unit[SOUND]
    expected = total / np.linalg.norm(total)
    combined = found["combined"]
    np.testing.assert_allclose(combined["vector"], expected, atol=1e-5)
    np.testing.assert_allclose(combined["similarity"], [unit[i["name"]] @ expected for i in found["inputs"]], atol=1e-5)
    assert combined["terms"] == [
        {"weight": 0.5, "kind": "image", "name": IMAGES[0]},
        {"weight": -2.0, "kind": "text", "name": TEXTS[1]},
        {"weight": 1.0, "kind": "audio", "name": SOUND},
    ]
    assert len(found["inputs"]) == 5  # what is only a term is no input
    lone = document({}, combination="text:rain")
    np.testing.assert_allclose(lone["combined"]["vector"], unit["rain"], atol=1e-5)
    assert lone["inputs"] == lone["tables"] == []


def test_arrays_are_written(tmp_path: Path, document: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "vectors"  # as it is named, without an ending
    printed = document({"text": TEXTS, "image": IMAGES}, combination="text:rain", npz=path)
    assert os.listdir(tmp_path) == ["vectors"]
    with np.load(path) as arrays:
        assert arrays["kinds"].tolist() == ["text"] * 3 + ["image"] * 2
        assert arrays["names"].tolist() == [*TEXTS, *IMAGES]
        assert arrays["vectors"].dtype == np.float32
        np.testing.assert_array_equal(arrays["vectors"], np.float32([i["vector"] for i in printed["inputs"]]))
        np.testing.assert_array_equal(arrays["vision_x_text"], np.float32(printed["tables"][0]["softmax"]))
        np.testing.assert_array_equal(arrays["vision_x_text_products"], np.float32(printed["tables"][0]["products"]))
        np.testing.assert_array_equal(arrays["combined"], np.float32(printed["combined"]["vector"]))
        assert arrays["combined_similarity"].shape == (5,)


def test_depth_thermal_and_imu_files(tmp_path: Path, document: Callable[..., dict[str, Any]]) -> None:
    rng = np.random.default_rng(0)
    depth, thermal, imu = (str(tmp_path / name) for name in ("depth.png", "thermal.png", "imu.csv"))
    Path(depth).write_bytes(write_png(rng.integers(500, 4000, (60, 80), np.uint16)))
    Path(thermal).write_bytes(write_png(rng.integers(29000, 31000, (60, 80), np.uint16)))
    rows = (rng.normal((0, 0, 9.8, 0, 0, 0), 1, (520, 6))).astype(np.float32)
    np.savetxt(imu, rows, fmt="%.6f", delimiter=",", header="ax,ay,az,gx,gy,gz", comments="")
    found = document({"depth": [depth], "thermal": [thermal], "imu": [imu], "text": ["a box"]}, imu_rate_hz=100.0)
    model = checkpoint.load(store.find("imagebind_nano"))
    with torch.inference_mode():
        expected = model(
            {
                "depth": preprocess.depth(read_png16(depth)[None].astype(np.float32) / 1000),
                "thermal": preprocess.thermal(read_png16(thermal)[None].astype(np.float32) / 100 - 273.15),
                "imu": preprocess.imu(rows[None], 100.0),
            }
        )
    for item in found["inputs"][1:]:
        np.testing.assert_allclose(item["vector"], expected[item["modality"]][0], atol=1e-3)
    pairs = [(t["rows"], t["columns"]) for t in found["tables"]]
    assert pairs[:3] == [("depth", "text"), ("thermal", "text"), ("imu", "text")]
    assert sorted(pairs[3:]) == [("depth", "imu"), ("depth", "thermal"), ("thermal", "imu")]


def test_only_the_encoders_that_are_needed_are_loaded(tmp_path: Path, document: Callable[..., dict[str, Any]]) -> None:
    weights = tmp_path / "two.safetensors"
    torch.manual_seed(0)
    checkpoint.save(imagebind_nano(["text", "vision"]), weights, {})
    found = document({"text": TEXTS, "image": IMAGES}, weights=str(weights))
    assert found["model"].startswith("two ")
    assert found["notes"] == []
    with pytest.raises(CheckpointError, match="has no encoder for audio; it has vision, text"):
        embed({"text": TEXTS}, combination=f"audio:{SOUND}", weights=str(weights))


def test_bfloat16_comes_close(document: Callable[..., dict[str, Any]]) -> None:
    exact, rounded = (
        np.array([i["vector"] for i in document({"text": TEXTS, "image": IMAGES}, dtype=dtype)["inputs"]])
        for dtype in ("float32", "bfloat16")
    )
    assert (exact * rounded).sum(axis=-1).min() >= 0.999


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ({}, {}, SimilarityError, "nothing to embed; try --text"),
        ({"text": ["a", "b"]}, {}, SimilarityError, "nothing to compare; give another modality too"),
        ({}, {"combination": "text:rain"}, SimilarityError, "nothing to compare"),
        ({"text": [" "]}, {"as_json": True}, SimilarityError, "--text ' ' is empty; give it words"),
        ({"text": ["a \udcff"]}, {"as_json": True}, SimilarityError, r"--text 'a \?' is not UTF-8"),
        (
            {"text": ["a"]},
            {"as_json": True, "device": "gpu"},
            SimilarityError,
            "--device is 'gpu'; it must be one of auto",
        ),
        (
            {"text": ["a"]},
            {"as_json": True, "dtype": "int8"},
            SimilarityError,
            "--dtype is 'int8'; it must be one of float",
        ),
        ({"text": ["a"]}, {"combination": "image:"}, CombinationError, "combination: at character 7 expected a name"),
        ({"text": ["a"]}, {"combination": ""}, CombinationError, "combination: at character 1 expected KIND:NAME"),
        ({"text": ["a"]}, {"combination": "text:a - text:a"}, CombinationError, "the terms cancel"),
        ({"text": ["a"], "image": ["none.jpg"]}, {}, MediaError, "none.jpg: no such file"),
        ({"text": ["a"]}, {"combination": "audio:none.wav"}, MediaError, "none.wav: no such file"),
        ({"text": ["a"], "audio": [IMAGES[0]]}, {}, MediaError, "landscape.png: cannot be read as audio"),
        ({"text": ["a"], "depth": ["none.png"]}, {}, MediaError, "none.png: no such file"),
        ({"text": ["a"], "thermal": [IMAGES[0]]}, {}, DriverError, "a PNG image of 8-bit colour, wanted 16-bit grey"),
        (
            {"text": ["a"], "imu": [SOUND]},
            {"imu_rate_hz": 9},
            SimilarityError,
            "'ax' must stand there once",
        ),
        ({"text": ["a"], "imu": [SOUND]}, {}, SimilarityError, "'ax' must stand there once"),
        ({"text": ["a"], "image": IMAGES}, {"weights": "imagebind-hug"}, CheckpointError, "imagebind-hug: no weights"),
        ({"text": ["a"]}, {"npz": Path("none/x.npz")}, SimilarityError, "x.npz: cannot be written"),
        ({"text": ["a"]}, {"npz": Path(".")}, SimilarityError, ".: exists already"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    given: dict[Any, list[str]],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSEBIND_WEIGHTS", str(tmp_path / "store"))
    with pytest.raises(error, match=message) as caught:
        embed(given, **options)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_depth_is_scaled_as_its_camera_counts(tmp_path: Path, document: Callable[..., dict[str, Any]]) -> None:
    counts = np.random.default_rng(2).integers(600, 4000, (60, 80), np.uint16)
    millimetres, fifths = tmp_path / "millimetres.png", tmp_path / "fifths.png"
    millimetres.write_bytes(write_png(counts))
    fifths.write_bytes(write_png(counts * np.uint16(5)))
    wanted = document({"text": ["a box"], "depth": [str(millimetres)]})["inputs"][1]["vector"]
    found = document({"text": ["a box"], "depth": [str(fifths)]}, depth_scale_m=0.0002)["inputs"][1]["vector"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    with pytest.raises(SimilarityError, match="--depth-scale-m: is -1; give metres per count"):
        embed({"text": ["a box"], "depth": [str(fifths)]}, depth_scale_m=-1)


def test_imu_recordings_that_are_too_short_are_named(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text("0,0,9.81,0,0,0\n" * 20)
    with pytest.raises(SimilarityError, match=r"imu.csv: rows: 20 at 100 Hz are too short"):
        embed({"text": ["a"], "imu": [str(path)]}, imu_rate_hz=100)


def test_of_an_imu_recording_only_the_first_line_may_be_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    row = "0,0,9.81,0,0,0\n"
    path.write_text(row * 300 + "0,0,9.81,0,0\n" + row * 300)
    with pytest.raises(SimilarityError, match=r"imu.csv: 1 lines are not measurements, 600 are"):
        embed({"text": ["a"], "imu": [str(path)]}, imu_rate_hz=100)


def test_without_times_an_imu_recording_needs_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text("0,0,9.81,0,0,0\n" * 600)
    with pytest.raises(SimilarityError, match=r"imu.csv: has no column t_ns, .* and no --imu-rate-hz is given"):
        embed({"text": ["a"], "imu": [str(path)]})


def test_an_exported_imu_table_is_the_same_input_as_its_rows(
    tmp_path: Path, document: Callable[..., dict[str, Any]]
) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal((0, 0, 9.8, 0, 0, 0), 0.5, (1100, 6))
    plain, exported = tmp_path / "plain.csv", tmp_path / "exported.csv"
    np.savetxt(plain, rows[100:], fmt="%.6f", delimiter=",")
    stamps = 1_700_000_000_000_000_000 + np.arange(1100) * 5_000_000
    stamps[100:] += 700_000_000  # a hole: what stands before it is of no moment
    lines = [f"{t}," + ",".join(f"{value:.6f}" for value in row) for t, row in zip(stamps, rows, strict=True)]
    exported.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    wanted = document({"text": ["a"], "imu": [str(plain)]}, imu_rate_hz=200.0)["inputs"][1]["vector"]
    found = document({"text": ["a"], "imu": [str(exported)]})["inputs"][1]["vector"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_nothing_is_replaced_by_the_arrays(tmp_path: Path) -> None:
    pipe, older = tmp_path / "pipe", tmp_path / "older.npz"
    os.mkfifo(pipe)
    older.write_text("vectors of yesterday")
    for path in (pipe, older):
        with pytest.raises(SimilarityError, match=f"{path.name}: exists already; choose another place"):
            embed({"text": ["a dog"]}, npz=path)
    assert pipe.is_fifo()
    assert older.read_text() == "vectors of yesterday"
    assert sorted(tmp_path.iterdir()) == [older, pipe]


def test_weights_that_overflow_are_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = imagebind_nano(["text", "depth"])
    with torch.no_grad():
        model.get_parameter("encoders.text.head.proj.weight").fill_(torch.finfo(torch.float32).max)
    weights = tmp_path / "large.safetensors"
    checkpoint.save(model, weights, {}, torch.float32)
    with pytest.raises(SimilarityError, match="not finite in float32; try --dtype float32"):
        embed({"text": ["a dog"]}, weights=str(weights), as_json=True)


def sensebind(*words: str | bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SENSEBIND, "embed", *words], capture_output=True, text=True, timeout=DEADLINE_S)


def test_the_command_prints_only_its_result(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff[b].wav"  # a name that is not UTF-8
    soundfile.write(odd, np.zeros(16000, np.float32), 16000, format="WAV")
    done = sensebind("--text", "a dog", "--text", "rain", "--image", IMAGES[0], b"--audio", odd, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [i["kind"] for i in document["inputs"]] == ["text", "text", "image", "audio"]
    assert document["inputs"][3]["name"].endswith("/?[b].wav")
    assert done.stderr.startswith("sensebind: note: imagebind_nano is a toy")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--text", "a", "--video", SOUND], "not a video that FFmpeg can read"),  # OpenCV itself says nothing
        (["--text", "a", "--combine", "beach.jpg"], "combination: at character 1"),
    ],
)
def test_the_command_fails_in_one_line(words: list[str], part: str) -> None:
    done = sensebind(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("sensebind: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert part in done.stderr


def test_names_that_are_no_utf_8_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    odd = os.fsencode(tmp_path) + b"/\xff[b].wav"
    soundfile.write(odd, np.zeros(16000, np.float32), 16000, format="WAV")
    embed({"text": ["a dog"], "audio": [os.fsdecode(odd)]}, device="cpu")
    assert f"{tmp_path}/?[b].wav" in capsys.readouterr().out
