"""``labelr doctor``: what labelr sees of this machine, and what to do about anything unusual."""

import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from labelr import console, files
from labelr.cli import options as opt
from labelr.errors import first_line
from labelr.processors import LIMIT, count_processors
from labelr.version import __version__, upgrade_hint

FOLDERS = {"home": ".", "models": "models", "cache": "pixels", "studies": "studies"}
"""The directories that are shown, in the folder of models and caches."""
VARIABLES = (
    "LABELR_HOME", "LABELR_OFFLINE", "LABELR_LOG_FILE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT", "TORCH_HOME", "HF_HOME",
)  # fmt: skip
"""Variables of the environment that change what labelr does."""
LOW_DISK_BYTES = 2 * 10**9
"""With less free space, a run may fail, and decoded images are not kept."""
LOW_MEMORY_BYTES = 2 * 10**9
"""With less free memory, training may run out of it."""
LOW_OPEN_FILES = 256
"""With fewer files that may be open at once, some libraries fail."""
NO_LIMIT_BYTES = 2**60
"""A cgroup without a limit may show one that is larger than any memory."""


@dataclass
class Report:
    """What was found, by section, and what needs attention."""

    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def doctor(printing: opt.Printing) -> None:
    """Show what labelr sees of this machine, and what to do about anything unusual.

    Nothing is downloaded or changed. The exit code is 3 if something needs attention; the last lines say what.

    Examples:
        labelr doctor
        labelr doctor --json
    """
    report = Report()
    with printing.session():
        for section, look in SECTIONS.items():
            try:
                report.found[section] = look(report)
            except Exception as error:  # noqa: BLE001 - a broken installation may raise anything; the rest is still shown
                report.found[section] = None
                report.problems.append(f"{section} cannot be examined: {first_line(error)}")
    found = {**report.found, "problems": report.problems}
    printing.show(found, _show)
    if report.problems:
        raise typer.Exit(opt.EXIT_ATTENTION)


def _packages(report: Report) -> dict[str, str | None]:
    """The version of each package that labelr requires."""
    needed = {name: (version, fits) for name, version, fits in _requirements("")}
    for name, (version, fits) in needed.items():
        if not fits:
            state = "missing" if version is None else f"too old: {version}"
            report.problems.append(f"the package {name} is {state}; {upgrade_hint()}")
    return {name: version for name, (version, _) in needed.items()}


def _extras(_: Report) -> list[dict[str, Any]]:
    names = sorted(set(metadata.metadata("labelr").get_all("Provides-Extra") or ()) - {"test"})
    rows = [(name, [package for package, _, fits in _requirements(name) if not fits]) for name in names]
    return [{"name": name, "installed": not missing, "missing": missing} for name, missing in rows]


def _requirements(extra: str) -> Iterable[tuple[str, str | None, bool]]:
    """The packages that labelr or an extra requires: name, installed version, and whether that is one that fits."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, metadata.requires("labelr") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if extra and requirement.marker is None:
            continue
        version = None
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        yield requirement.name, version, fits


def _torch(report: Report) -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a damaged library may raise anything
        report.problems.append(
            f"torch cannot be imported: {first_line(error)}; reinstall it with `pip install --force-reinstall torch`"
        )
        return {"version": None, "cuda": None}
    return {"version": torch.__version__, "cuda": torch.version.cuda}


def _device(report: Report) -> dict[str, Any] | None:
    """What `auto` picks."""
    if report.found["torch"]["version"] is None:
        return None
    import torch

    from labelr.model.device import pick_runtime

    with warnings.catch_warnings(record=True) as caught:  # such as of a driver that is too old
        runtime = pick_runtime()
    kind = runtime.device.type
    report.problems += [f"torch warns: {first_line(warning.message)}" for warning in caught if kind == "cpu"]  # type: ignore[arg-type]
    if kind == "cuda":
        name, (free, total) = torch.cuda.get_device_name(), torch.cuda.mem_get_info()
    else:
        name, free, total = platform.processor() or platform.machine(), None, None
    if kind == "cpu" and shutil.which("nvidia-smi") and not caught:
        report.problems.append(_unused_gpu(report.found["torch"]["cuda"]))
    if free is not None and free < LOW_MEMORY_BYTES:
        report.problems.append(
            f"only {_format_bytes(free)} of the GPU's memory is free; end the other programs that `nvidia-smi` lists"
        )
    return {
        "device": kind, "name": name, "precision": runtime.precision, "memory": total, "memory_free": free,
        "threads": runtime.threads, "workers": runtime.workers,
    }  # fmt: skip


def _unused_gpu(cuda: str | None) -> str:
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return "no NVIDIA GPU is used, as CUDA_VISIBLE_DEVICES hides it; unset this variable to use it"
    if cuda is None:
        return (
            "no NVIDIA GPU is used, as this torch is built for the CPU; install another build, see https://pytorch.org"
        )
    return "torch finds no NVIDIA GPU, though there is `nvidia-smi`; see what that says"


def _processors(report: Report) -> dict[str, Any]:
    """How many processors there are, how many this process may use, and what limits them."""
    everything, usable = os.cpu_count() or 1, count_processors()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everything
    threads = (report.found["device"] or {}).get("threads") or usable
    limited_by = "" if threads == everything else "affinity" if threads == affinity else "cgroup"
    if threads < usable:
        limited_by = "OMP_NUM_THREADS"
        report.problems.append(
            f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} lets labelr use {threads} of {usable} processors; unset "
            "it, or give `--threads`, to use all"
        )
    elif usable < affinity and os.environ.get(LIMIT) == str(usable):
        limited_by = LIMIT
    return {"count": everything, "usable": usable, "threads": threads, "limited_by": limited_by}


def _limits(report: Report) -> dict[str, int | None]:
    """Limits of this process and of the machine; sizes in bytes, None where there is no limit or it is not known."""
    open_files, address_space = _resource_limits()
    total = available = shared = None
    with suppress(OSError, ValueError, AttributeError):  # of Windows
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
        available = int(found[1]) * 1024 if found else None
    with suppress(OSError):
        shared = shutil.disk_usage("/dev/shm").total  # noqa: S108 - only its size
    cgroup = min(_cgroup_limits(), default=None)
    if open_files is not None and open_files < LOW_OPEN_FILES:
        report.problems.append(
            f"only {open_files} files may be open at once; allow more with `ulimit -n {4 * LOW_OPEN_FILES}`"
        )
    memory = min((size for size in (available, cgroup, address_space) if size is not None), default=None)
    if memory is not None and memory < LOW_MEMORY_BYTES:
        report.problems.append(
            f"only {_format_bytes(memory)} of memory can be used; free some, or train with a smaller `--micro-batch`"
        )
    return {
        "open_files": open_files, "address_space": address_space, "shared_memory": shared, "memory": total,
        "memory_available": available, "memory_cgroup": cgroup,
    }  # fmt: skip


def _resource_limits() -> tuple[int | None, int | None]:
    """The limits of open files and of the address space; None where there is none."""
    if sys.platform == "win32":
        return None, None
    import resource

    found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS)]
    open_files, address_space = (None if value == resource.RLIM_INFINITY else value for value in found)
    return open_files, address_space


def _cgroup_limits() -> Iterable[int]:
    """The limits of memory of this process's control group and of those above it, in bytes, in either version."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, name = line.split(":", 2)
            root, file = Path("/sys/fs/cgroup"), "memory.max"
            if kinds:
                root, file = root / "memory", "memory.limit_in_bytes"
            if kinds and "memory" not in kinds.split(","):
                continue
            folder = root / name.lstrip("/")
            for path in (folder, *folder.parents):
                with suppress(OSError, ValueError):  # "max" means that there is no limit
                    limit = int((path / file).read_text(encoding="utf-8"))
                    yield from [limit] if limit < NO_LIMIT_BYTES else []


def _directories(report: Report) -> list[dict[str, Any]]:
    rows = [_directory(name, Path(os.path.normpath(files.home() / folder))) for name, folder in FOLDERS.items()]
    for row in [row for row in rows if row["error"]][:1]:  # the others would only repeat it
        report.problems.append(
            f"the directory {row['path']} cannot be written: {row['error']}; correct that, or name another directory "
            "with the variable LABELR_HOME"
        )
    free = rows[0]["free"]
    if free is not None and free < LOW_DISK_BYTES and not rows[0]["error"]:
        report.problems.append(
            f"only {_format_bytes(free)} is free on the disk of {rows[0]['path']}; free some space, such as with "
            "`labelr cache clear`"
        )
    return rows


def _directory(name: str, folder: Path) -> dict[str, Any]:
    """A directory that may not exist yet: its size, free space, and why it cannot be written, if so."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    free, error = None, ""
    with suppress(OSError):
        free = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as caught:
        error = caught.strerror or first_line(caught)
    return {"name": name, "path": str(folder), "bytes": files.folder_size(folder), "free": free, "error": error}


def _backbones(report: Report) -> list[str] | None:
    """The names of those whose weights are on this machine."""
    if report.found["torch"]["version"] is None:
        return None
    from labelr.model.backbones import list_backbones

    return [backbone.name for backbone in list_backbones() if backbone.local_weights() is not None]


SECTIONS: dict[str, Callable[[Report], object]] = {
    "labelr": lambda _: {"version": __version__, "path": str(Path(files.__file__).parent)},
    "python": lambda _: {
        "version": platform.python_version(), "path": sys.executable, "system": platform.platform(),
    },
    "packages": _packages,
    "torch": _torch,
    "device": _device,
    "processors": _processors,
    "extras": _extras,
    "backbones": _backbones,
    "limits": _limits,
    "variables": lambda _: {name: os.environ[name] for name in VARIABLES if name in os.environ},
    "directories": _directories,
}  # fmt: skip
"""What is examined, in this order: some depends on what came before."""


def _show(found: Mapping[str, Any]) -> None:
    for name, text in _describe(found).items():
        if text:
            console.show_note(f"{name}: {text}", to=console.stdout)
    console.show_table([
        {
            "directory": row["name"],
            "size": _format_bytes(row["bytes"]),
            "free": _format_bytes(row["free"]),
            "writable": "no" if row["error"] else "yes",
            "path": row["path"],
        }
        for row in found["directories"] or ()
    ])  # fmt: skip
    console.show_problems(found["problems"])


def _describe(found: Mapping[str, Any]) -> dict[str, str]:
    """One line about each section; empty for one that could not be examined."""
    python, limits = found["python"], found["limits"] or {}
    versions = {**(found["packages"] or {}), **({"torch": found["torch"]["version"]} if found["torch"] else {})}
    extras = found["extras"] or ()
    missing = ", ".join(row["name"] for row in extras if not row["installed"])
    return {
        "labelr": "{version} in {path}".format(**found["labelr"]),
        "Python": "{version} at {path}".format(**python),
        "system": python["system"],
        "device": _describe_device(found["device"]),
        "threads": _describe_processors(found["processors"]),
        "memory": _describe_memory(limits),
        "open files": f"at most {limits['open_files']:,}" if limits.get("open_files") else "",
        "shared memory": _format_bytes(limits.get("shared_memory")),
        "extras": ", ".join(row["name"] for row in extras if row["installed"]) or "none",
        "extras to install": missing and f"{missing}: `pip install 'labelr[NAME]'`",
        "backbones here": ", ".join(found["backbones"] or ()),
        "packages": ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items()),
        "variables": ", ".join(f"{name}={value}" for name, value in (found["variables"] or {}).items()),
    }


def _describe_device(device: Mapping[str, Any] | None) -> str:
    if device is None:
        return ""
    memory = f", {_format_bytes(device['memory_free'])} of {_format_bytes(device['memory'])} free"
    return f"{device['device']} ({device['name']}), {device['precision']}{memory if device['memory'] else ''}"


def _describe_processors(processors: Mapping[str, Any] | None) -> str:
    if processors is None:
        return ""
    reason = f", limited by {processors['limited_by']}" if processors["limited_by"] else ""
    return f"{processors['threads']} on {processors['count']} processors{reason}"


def _describe_memory(limits: Mapping[str, int | None]) -> str:
    parts = {
        "": limits.get("memory"),
        " available": limits.get("memory_available"),
        " at most, by cgroup": limits.get("memory_cgroup"),
        " at most, by ulimit -v": limits.get("address_space"),
    }
    return ", ".join(f"{_format_bytes(size)}{what}" for what, size in parts.items() if size is not None)


def _format_bytes(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:,.1f} GB" if size >= 10**9 else f"{size / 1e6:,.1f} MB"
