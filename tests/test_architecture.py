"""The two rules of ARCHITECTURE.md, and a quick start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import publisher

ROOT = Path(publisher.__file__).parent
LAYERS = (  # from the inside out; a module imports from its own layer or further in
    {"errors"},
    {"card", "conservation", "dataset", "lazy", "masks", "names", "panoptic", "png", "progress"}
    | {"refine", "refinement", "report", "rules", "shapes", "spill", "split", "stats", "validate"}
    | {"versions"},
    {
        "columns",
        "engine",
        "failpoint",
        "files",
        "findings",
        "formats",
        "images",
        "journal",
        "json_stream",
    }
    | {"keys", "provenance", "redaction", "ritm", "scratch", "sheet", "storage", "wire"}
    | {"workspace"},
    {"bucket", "judging", "refining", "stages", "training"},
    {"api"},
    {"cli", "__main__"},
)
HOME = {
    "boto3": ("storage",),
    "botocore": ("storage",),
    "urllib3": ("storage",),
    "socket": ("wire",),
    "hmac": ("wire",),
    "cryptography": ("keys",),
    "pycocotools": ("masks",),
    "safetensors": ("ritm",),
    "torch": ("ritm",),
    "PIL": ("images",),
    "click": ("cli",),
    "rich": ("cli",),
    "defusedxml": ("formats",),
    "multiprocessing": ("engine",),
    "zlib_ng": ("png",),
    "yaml": ("card", "formats"),
}
PURE = sys.stdlib_module_names | {"numpy", "msgspec", "pycocotools", "yaml", "zlib_ng"}
IMPURE_STDLIB = {"os", "shutil", "socket", "subprocess", "tempfile", "time", "random", "threading"}


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    """The name of a module, or of the package directly under publisher/ that it is in."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Names of our own modules as `.name`, of others as they are."""
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            parts = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ("." + part.split(".")[0] for part in parts)


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_inward(path):
    mine = layer(name_of(path))
    for imported in imports(path):
        if imported.startswith(".") and imported != ".__version__":
            assert layer(imported[1:]) <= mine, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_dependency_has_one_home(path):
    for imported in imports(path):
        if imported in HOME:
            assert name_of(path) in HOME[imported], f"import {imported} in {HOME[imported]} only"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_core_touches_no_file_network_clock_or_chance(path):
    if layer(name_of(path)) > 1 or name_of(path) == "spill":  # whose files nobody else sees
        return
    for imported in imports(path):
        if not imported.startswith("."):
            assert imported in PURE
            assert imported not in IMPURE_STDLIB


@pytest.mark.parametrize(
    "heavy", ["torch", "boto3", "botocore", "click", "cryptography", "PIL", "numpy"]
)
def test_importing_publisher_is_light(heavy):
    assert heavy not in loaded_by("import publisher")


@pytest.mark.parametrize(
    "heavy", ["torch", "boto3", "botocore", "cryptography", "PIL", "numpy", "rich", "msgspec"]
)
def test_help_loads_nothing_that_it_does_not_need(heavy):
    code = "from publisher.cli import main; main(['--help'], standalone_mode=False)"
    assert heavy not in loaded_by(code)


def loaded_by(code: str) -> set[str]:
    report = "import sys; print('LOADED', *{m.split('.')[0] for m in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_public_name_is_there():
    for name in publisher.__all__:
        assert getattr(publisher, name).__doc__
