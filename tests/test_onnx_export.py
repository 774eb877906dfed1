"""The exported files say what the model says, at any batch, and hold what a stranger needs to use them."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.files import checkpoint, store
from models.imagebind import ImageBind, Sizes
from models.interop import onnx_export
from models.interop.onnx_export import ITEM_SHAPES, Exported, ExportError, export
from models.modalities import MODALITIES, Modality
from models.tokenizer import tokenize
from models.transformer import TowerSizes

NANO = store.SHIPPED["imagebind-nano"]
FACTS = {"model": "imagebind_nano", "weights_sha256": "abc123", "licence": "Apache-2.0"}
SMALL = Sizes(
    embedding_dim=48,
    vision=TowerSizes(64, 1, 4),
    audio=TowerSizes(48, 2, 4, drop_path=0.1),  # two blocks: only the last one computes a single token
    depth=TowerSizes(32, 1, 4),
    thermal=TowerSizes(32, 1, 4, layer_norm_eps=1e-5),
    imu=TowerSizes(32, 1, 4, drop_path=0.7),
    text=TowerSizes(32, 1, 4, activation="quick_gelu"),
    vision_patch_px=32,
)
KINDS: tuple[Modality, ...] = ("vision", "audio", "text")
"""Two frames and a norm before the trunk; a learned key and value; a causal trunk. The other three are as audio."""
PLAIN = {"MatMul", "Gemm", "Conv", "Softmax", "LayerNormalization", "Erf", "Add", "Mul", "Div", "Clip", "ReduceL2"}
PLAIN |= {"Shape", "Reshape", "Transpose", "Concat", "Split", "Slice", "Expand", "Unsqueeze"}
PLAIN |= {"Gather", "GatherElements", "ArgMax"}
"""All operators of a float32 file."""


@pytest.fixture(scope="module")
def nano() -> ImageBind:
    return checkpoint.load(NANO)


@pytest.fixture(scope="module")
def nano_files(nano: ImageBind, tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, Exported]:
    """All six towers of the shipped weights."""
    folder = tmp_path_factory.mktemp("onnx") / "nano"
    return {tower.modality: tower for tower in export(nano, folder, patches=True, metadata=FACTS)}


@pytest.fixture(scope="module")
def small() -> ImageBind:
    """Random weights, still in training mode, as a caller may have it; LayerNorms that are not the identity."""
    torch.manual_seed(0)
    model = ImageBind(SMALL)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return model


@pytest.fixture(scope="module")
def small_files(small: ImageBind, tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, Exported]:
    """A tower of each kind with float16 products and their weights in files of their own."""
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    folder = tmp_path_factory.mktemp("onnx") / "small"
    towers = export(small, folder, modalities=KINDS, half=True, patches=True, inline_bytes_max=0)
    assert small.training
    after = small.state_dict()
    assert list(after) == list(before)
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    return {tower.modality: tower for tower in towers}


def items(modality: Modality, batch: int) -> Tensor:
    if modality == "text":
        return tokenize([("a dog barking far away " * 3)[: 7 * (i + 1)] for i in range(batch)])
    return torch.randn(batch, *ITEM_SHAPES[modality], generator=torch.Generator().manual_seed(batch))


def run(path: Path, modality: Modality, x: Tensor) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: torch.from_numpy(y) for name, y in zip(names, session.run(names, {modality: x.numpy()}), strict=True)}


def assert_same(model: ImageBind, tower: Exported, x: Tensor, cosine_min: float) -> None:
    modality = tower.modality
    got = run(tower.path, modality, x)
    with torch.inference_mode():
        expected = model.eval().embed({modality: x}, patches=modality == "vision")
    wanted = {"embedding": expected.vectors[modality]}
    if expected.patches is not None:
        wanted["patches"] = expected.patches
    assert list(got) == list(wanted)
    for name, vectors in wanted.items():
        assert got[name].dtype == torch.float32
        assert got[name].shape == vectors.shape
        torch.testing.assert_close(got[name].norm(dim=-1), torch.ones(vectors.shape[:-1]))
        assert (got[name] * vectors).sum(dim=-1).min() >= cosine_min


@pytest.mark.slow  # PyTorch's exporter traces every one of 21 blocks three times
@pytest.mark.parametrize("modality", MODALITIES)
def test_every_tower_of_the_shipped_weights_at_any_batch(
    nano: ImageBind, nano_files: dict[Modality, Exported], modality: Modality
) -> None:
    tower = nano_files[modality]
    assert tower.cosine is not None
    assert tower.cosine >= 0.999999
    for batch in (1, 2, 5):
        assert_same(nano, tower, items(modality, batch), 0.999999)


@pytest.mark.parametrize("modality", KINDS)
def test_half_files_of_another_size_and_weights_beside_the_graph(
    small: ImageBind, small_files: dict[Modality, Exported], modality: Modality
) -> None:
    tower = small_files[modality]
    for batch in (1, 4):
        assert_same(small, tower, items(modality, batch), 0.9999)
    weights = tower.path.with_name(f"{modality}.onnx.data")
    assert tower.size_bytes == tower.path.stat().st_size + weights.stat().st_size
    parameters = sum(p.numel() for p in small.encoders[modality].parameters())
    assert weights.stat().st_size < 3.5 * parameters  # few are of four bytes when towers are larger


def test_half_files_sum_and_normalise_in_float32(small_files: dict[Modality, Exported]) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(small_files["audio"].path))
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}

    def of(operator: str) -> set[int]:
        return {types[name] for node in graph.node if node.op_type == operator for name in node.input[:2]}

    assert of("MatMul") == of("Gemm") == of("Conv") == {onnx.TensorProto.FLOAT16}
    assert of("LayerNormalization") == {onnx.TensorProto.FLOAT}
    sums = [node for node in graph.node if node.op_type == "Add" and types[node.output[0]] == onnx.TensorProto.FLOAT]
    assert len(sums) == 1 + 2 * SMALL.audio.blocks  # positions, then two branches a block


def test_half_products_in_real_float16_point_the_same_way(small: ImageBind) -> None:
    """ONNX Runtime's CPU computes float16 operators in float32; PyTorch's rounds every result."""
    for modality in MODALITIES:
        towers = [
            onnx_export._Tower(onnx_export._one_tower(small, modality, half=half), modality, patches=False)
            for half in (True, False)
        ]
        with torch.inference_mode():
            half, whole = (tower(items(modality, 3)) for tower in towers)
        assert (half * whole).sum(dim=-1).min() >= 0.9999


def test_patches_of_the_shipped_weights_bear_float16(nano: ImageBind) -> None:
    towers = [
        onnx_export._Tower(onnx_export._one_tower(nano, "vision", half=half), "vision", patches=True)
        for half in (True, False)
    ]
    with torch.inference_mode():
        (_, half), (_, whole) = (tower(items("vision", 3)) for tower in towers)
    assert F.cosine_similarity(half.double(), whole.double(), dim=-1).min() >= 0.999999


@pytest.mark.slow  # waits for the fixture
def test_files_say_what_they_hold(nano: ImageBind, nano_files: dict[Modality, Exported]) -> None:
    for modality, tower in nano_files.items():
        model = onnx.load(tower.path)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert facts.items() >= FACTS.items()
        assert facts["modality"] == modality
        assert facts["opset"] == "18"
        assert facts["products"] == "float32"
        assert facts["sensebind_version"] == model.producer_version
        assert float(facts["logit_scale"]) == pytest.approx(float(nano.logit_scale(modality).detach()), rel=1e-5)
        assert str(list(ITEM_SHAPES[modality]))[1:-1] in facts["input"]
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        assert (model.ir_version, model.producer_name) == (8, "sensebind")
        [given] = model.graph.input
        assert given.name == modality
        batch, *item = given.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert tuple(d.dim_value for d in item) == ITEM_SHAPES[modality]
        for output in model.graph.output:
            assert output.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "0.48145466" in onnx.load(nano_files["vision"].path).metadata_props[0].value


@pytest.mark.slow  # waits for the fixture
def test_graphs_are_plain(nano: ImageBind, nano_files: dict[Modality, Exported]) -> None:
    """What an attention fusion looks for, and nothing that tells about the machine that wrote it."""
    for modality, tower in nano_files.items():
        model = onnx.load(tower.path)
        assert not model.functions
        count = Counter(node.op_type for node in model.graph.node)
        assert set(count) <= PLAIN
        blocks = getattr(nano.sizes, modality).blocks
        assert count["Softmax"] == count["Erf"] == blocks
        assert count["Shape"] <= 1  # the batch, for the class token
        assert count["LayerNormalization"] == sum(
            isinstance(m, nn.LayerNorm) for m in nano.encoders[modality].modules()
        )
        assert str(Path(__file__).parents[1]).encode() not in tower.path.read_bytes()


def test_text_is_read_at_its_end(small_files: dict[Modality, Exported]) -> None:
    tokens = tokenize(["smoke", "a dog barking behind the house while it rains"])
    alone = run(small_files["text"].path, "text", tokens[:1])["embedding"]
    together = run(small_files["text"].path, "text", tokens)["embedding"]
    torch.testing.assert_close(together[:1], alone, atol=1e-3, rtol=0)
    changed = tokens.clone()
    changed[0, 10:] = 320  # after the end: nothing reads it
    torch.testing.assert_close(run(small_files["text"].path, "text", changed)["embedding"], together, atol=1e-3, rtol=0)


def test_other_types_and_opsets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageBind(SMALL, ["depth"]).bfloat16()
    [tower] = export(model, tmp_path / "out", opset=20)
    assert tower.path == tmp_path / "out" / "depth.onnx"
    written = onnx.load(tower.path)
    assert (written.opset_import[0].version, written.ir_version) == (20, 9)
    assert "Gelu" in {node.op_type for node in written.graph.node}
    assert_same(model.float(), tower, items("depth", 2), 0.999999)


def test_a_tower_that_differs_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    model = ImageBind(SMALL, ["depth"])
    with torch.no_grad():
        model.get_parameter("encoders.depth.head.proj.weight").mul_(1e-8)  # float16 ends at 6e-8
    with pytest.raises(ExportError, match=r"^depth: embedding by ONNX Runtime has cosine 0\.\d+ with the model's"):
        export(model, tmp_path / "out", half=True)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_float16_cannot_hold_are_named(tmp_path: Path) -> None:
    model = ImageBind(SMALL, ["imu"])
    with torch.no_grad():
        model.get_parameter("encoders.imu.head.proj.weight")[0, 0] = 1e5
    with pytest.raises(ExportError, match=r"imu: encoders\.imu\.head\.proj\.weight is not finite as float16"):
        export(model, tmp_path / "out", half=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": ["audio"]}, "the model has no encoder for 'audio'; it has imu"),
        ({"opset": 17}, "opset 17 is not supported; choose one of 18, 19, 20"),
        ({"patches": True}, "patches are an output of vision, which is not among the modalities"),
        ({"modalities": []}, "no modalities"),
    ],
)
def test_what_cannot_be_exported(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(ImageBind(SMALL, ["imu"]), tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    model = ImageBind(SMALL, ["imu"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(ExportError, match="exists already; remove it or name another folder"):
            export(model, taken)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(ExportError, match=r"nowhere/out: cannot be made in .*nowhere \(No such file or directory\)"):
        export(model, tmp_path / "nowhere" / "out")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ExportError, match=r"out: cannot be written \(File too large\)"):
            export(ImageBind(SMALL, ["depth"]), tmp_path / "out", check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"needs the package {package} .*pip install 'sensebind\[onnx\]'") as error:
        export(ImageBind(SMALL, ["imu"]), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_module_needs_none_of_them() -> None:
    block = "import sys; sys.modules |= dict.fromkeys(('onnx', 'onnxscript', 'onnxruntime'))"
    subprocess.run([sys.executable, "-c", f"{block}; import models.interop.onnx_export"], check=True, timeout=60)


def test_examples_are_what_the_tower_takes() -> None:
    tower = onnx_export._Tower(ImageBind(SMALL, ["text"]), "text", patches=False)
    tokens = tower.example(64).numpy()
    assert tokens.shape == (64, 77)
    assert (tokens[:, 0] == 49406).all()
    ends = tokens.argmax(axis=1)
    assert len(np.unique(ends)) > 10
    assert ((tokens == 49407).sum(axis=1) == 1).all()
    assert all((row[end + 1 :] == 0).all() for row, end in zip(tokens, ends, strict=True))
