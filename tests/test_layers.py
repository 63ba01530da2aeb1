"""The layers of the package, and what must exist only once."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "labelr"

LAYERS = [
    ["errors", "processors", "progress", "signals", "version"],
    ["files", "frames", "ranks"],
    ["locks", "serialization", "xmp"],
    ["buckets"],
    ["fields"],
    ["config"],
    ["data"],
    ["model"],
    ["scoring"],
    ["exporting", "tagging", "training"],
    ["tuning"],
    ["review"],
    ["rich_tables"],
    ["console"],
    ["cli", "python_api"],
    ["__init__", "__main__"],
]
"""From the bottom up; packages of one layer do not import each other."""

HEAVY = [
    "PIL", "jinja2", "markupsafe", "matplotlib", "numpy", "optuna", "pandas", "safetensors", "sklearn", "torch",
    "torchvision", "pydantic",
]  # fmt: skip
"""Packages that take long to import and must not delay ``--help``."""

HEAVY_PACKAGES = {"data", "exporting", "model", "review", "scoring", "tagging", "training", "tuning"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(name: str) -> int:
    return next(level for level, names in enumerate(LAYERS) if name in names)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The labelr modules that a module imports at any depth of its code, as dotted names without ``labelr``."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "labelr":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labelr."):
            module = (node.module or "").removeprefix("labelr.")
            inside = {f"{module}.{alias.name}" for alias in node.names if is_module(f"{module}.{alias.name}")}
            found |= inside or {module}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("labelr.") for alias in node.names if alias.name.startswith("labelr")}
    return frozenset(found)


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_import_only_from_layers_below_or_their_own_package(path: Path) -> None:
    own = dotted(path).split(".")[0]
    for name in imports_of(path):
        package = name.split(".")[0]
        assert package == own or layer_of(package) < layer_of(own), f"{dotted(path)} imports {name}"


def test_imports_have_no_cycle() -> None:
    graph = {dotted(path): imports_of(path) for path in MODULES if path.name != "__init__.py"}
    reached: dict[str, frozenset[str]] = {}

    def reach(name: str, trail: tuple[str, ...]) -> frozenset[str]:
        assert name not in trail, f"a cycle: {' -> '.join((*trail, name))}"
        if name not in reached:
            below = graph.get(name, frozenset())
            reached[name] = below.union(*(reach(other, (*trail, name)) for other in below))
        return reached[name]

    for name in graph:
        reach(name, ())


def test_only_one_place_opens_images() -> None:
    users = [dotted(path) for path in MODULES if "Image.open" in path.read_text(encoding="utf-8")]
    assert users == ["data.images"]


LIGHT_MODULES = [path for path in MODULES if dotted(path).split(".")[0] not in HEAVY_PACKAGES]


@pytest.mark.parametrize("path", LIGHT_MODULES, ids=dotted)
def test_light_modules_import_nothing_heavy_at_module_level(path: Path) -> None:
    names = set()
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert not names & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["tag", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nsys.argv = ['labelr', *sys.argv[1:]]\n"
        "from labelr.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_pandas_is_imported_where_it_is_used_and_nowhere_at_module_level(path: Path) -> None:
    body = parsed(path).body
    assert "pandas" not in {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
