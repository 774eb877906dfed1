"""Generate the Python code of the .proto files: `python -m protos.generate` (or `make protos`).

Refuses a change that would break programs built against the stored descriptor set `sensebind.binpb`: `compatibility`
holds the rule.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos.compatibility import breaks

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTOR_SET = "protos/sensebind.binpb"
WITHOUT_SERVICE = ("protos/sensors.proto", "protos/viewers.proto")
WITH_SERVICE = "protos/perception.proto"


class GenerateError(Exception):
    """Generating failed; the message says what and where."""


def generate(out: Path) -> None:
    """Write the generated code and the descriptor set into `out`/protos, from the .proto files of this package."""
    (out / "protos").mkdir(exist_ok=True)
    scripts = Path(sysconfig.get_path("scripts"))
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    messages = [f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    services = [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
    described = ["--include_imports", f"--descriptor_set_out={out / DESCRIPTOR_SET}"]
    _protoc([*plugins, *messages, *described, *WITHOUT_SERVICE, WITH_SERVICE])
    _protoc([*plugins, *services, WITH_SERVICE])


def stored_descriptors(root: Path = ROOT) -> FileDescriptorSet:
    """Read the descriptor set that `generate` left under `root`."""
    return FileDescriptorSet.FromString((root / DESCRIPTOR_SET).read_bytes())


def _protoc(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GenerateError(done.stderr.strip() or f"protoc ended with code {done.returncode}")


def main() -> int:
    """Generate, check the rule, and only then replace the files of this package."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        try:
            generate(fresh)
        except GenerateError as error:
            print(error, file=sys.stderr)
            return 1
        if (ROOT / DESCRIPTOR_SET).exists():
            broken = breaks(stored_descriptors(), stored_descriptors(fresh))
            for line in broken:
                print(f"{line}: fields are only ever added; give the change a new name and number", file=sys.stderr)
            if broken:
                return 1
        for file in sorted((fresh / "protos").iterdir()):
            shutil.copyfile(file, ROOT / "protos" / file.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
