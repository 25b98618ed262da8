"""Engine files and their sidecars, looked into without TensorRT.

An engine holds code for one GPU and is run as such: TensorRT may crash, or do what its maker wants, on a file that was
changed. So what can be known is known before TensorRT sees a byte: where the engine came from, that it is whole, which
version and which GPU it was built for.

``model.engine`` has ``model.engine.json`` beside it. Engines of others have none: trtexec writes the bare plan, and
Ultralytics puts the length of a JSON text and that text before it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.places import cache_dir
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_tensorrt._versions import compatible
from llama_pajamas_run_tensorrt.files import write_whole

#: How a plan begins, and where in it the version that made it lies (as trtexec --getPlanVersionOnly reads it).
MAGIC: Final = b"ftrt"
_VERSION_AT: Final = 24
_HEADER: Final = 28
#: Ultralytics' text is a few kilobytes; anything longer is something else.
_LONGEST_PREFIX: Final = 1 << 20
#: Folders whose engines are trusted, separated as in PATH.
TRUSTED: Final = "LLAMA_PAJAMAS_TRUSTED_ENGINES"
_FORMAT: Final = 1

#: For each input its smallest, best and largest shape.
Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What a sidecar says about its engine.

    Attributes:
        sha256: the checksum of the engine file.
        tensorrt: the version that built it.
        cuda: the CUDA version of that TensorRT ("12.0"), "" where unknown.
        capability: the compute capability it was built for.
        gpu: the GPU's name.
        precision: "fp32", "fp16" or "int8".
        profiles: its optimization profiles; for each, every input's smallest, best and largest shape.
        source: the name of the graph it was made from.
        source_sha256: that graph's checksum, with its weights.
        task: "vision" or "stt", "" where it was made for none in particular.
        description: how the task's room uses it, in the words of the source's own configuration.
        accuracy: what the export measured against FP32.
        build: how it was built: seconds, tactic sources, version of run-tensorrt, ...
    """

    sha256: str
    tensorrt: str
    cuda: str
    capability: tuple[int, int]
    gpu: str
    precision: str
    profiles: tuple[Profile, ...]
    source: str
    source_sha256: str
    task: str = ""
    description: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)

    def write(self, engine: Path) -> Path:
        """Write the sidecar of an engine; it appears whole or not at all."""
        path = sidecar(engine)
        write_whole(path, (json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n").encode())
        return path

    @classmethod
    def read(cls, engine: Path) -> "EngineRecord | None":
        """The sidecar of an engine, or None where there is none.

        Raises:
            LoadError: it is damaged.
        """
        path = sidecar(engine)
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LoadError(f"{path} cannot be read: {error}.") from error
        try:
            fields = json.loads(text)
            if (number := fields.pop("format")) != _FORMAT:
                raise LoadError(f"{path} is of format {number}, this version reads {_FORMAT}.", hint=_rebuild(engine))
            major, minor = fields["capability"]
            fields["capability"] = (int(major), int(minor))
            fields["profiles"] = tuple(_profile(profile) for profile in fields["profiles"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(f"{path} is a damaged engine record: {error}.", hint=_rebuild(engine)) from error


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An engine that was looked into.

    Attributes:
        path: the file.
        offset: where the plan begins in it.
        size: bytes of the file.
        version: the TensorRT version that the plan says it was made with ("8.6.1"), or None where it says none.
        metadata: what Ultralytics wrote before the plan.
        record: the sidecar, or None.
    """

    path: Path
    offset: int
    size: int
    version: str | None
    metadata: Mapping[str, Any]
    record: EngineRecord | None

    def plan(self) -> bytes:
        """The plan itself.

        Raises:
            LoadError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read()
        except OSError as error:
            raise LoadError(f"{self.path} cannot be read: {error.strerror or error}.") from error


def sidecar(engine: Path) -> Path:
    """Where an engine's record lies."""
    return engine.with_name(engine.name + ".json")


def read_engine(path: str | os.PathLike[str]) -> EngineFile:
    """Look into an engine file. TensorRT is not needed, and sees nothing of it.

    Raises:
        BadInput: there is no such file, or it is no engine.
        LoadError: it is cut short, or its sidecar is damaged.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER + 8)
            offset, metadata = 0, {}
            if head[:4] != MAGIC and (length := _prefix(head)):
                file.seek(4)
                offset, metadata = 4 + length, _json(file.read(length))
                head = file.read(_HEADER)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}.", param="model") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.", param="model") from error
    if not size:
        raise LoadError(f"{path} is empty.", hint=_rebuild(path))
    if head[:4] != MAGIC:
        if size < _HEADER or MAGIC.startswith(head[:4]):
            raise LoadError(f"{path} is a damaged engine: it ends at {size:,} bytes.", hint=_rebuild(path))
        raise BadInput(
            f"{path} is no TensorRT engine: it begins with {head[:4]!r}, an engine with {MAGIC!r}.", param="model"
        )
    if len(head) < _HEADER:
        raise LoadError(f"{path} is a damaged engine: it ends at {size:,} bytes.", hint=_rebuild(path))
    return EngineFile(path, offset, size, _version(head), metadata, EngineRecord.read(path))


def check_engine(
    engine: EngineFile, *, tensorrt: str, capability: tuple[int, int], gpu: str, trust: bool = False
) -> None:
    """See that an engine is whole, was built for this machine, and may be run.

    Args:
        engine: the engine.
        tensorrt: the version that is to load it.
        capability: the compute capability of the GPU that is to run it.
        gpu: that GPU's name.
        trust: whether the caller vouches for the file.

    Raises:
        LoadError: it is damaged, or made for another version or GPU; the message says what to build anew.
        BadInput: it comes from elsewhere and nobody vouches for it.
    """
    path, record = engine.path, engine.record
    digest = checksum(path) if record is not None or not trust else ""
    if record is not None:
        # Before the checksum, because a wrong machine is the commoner reason and says more.
        if record.capability != capability:
            raise LoadError(
                f"{path} was built for compute capability {_dotted(record.capability)} ({record.gpu}), "
                f"this GPU has {_dotted(capability)} ({gpu}).",
                hint=_rebuild(path, record),
            )
        if not compatible(record.tensorrt, tensorrt):
            raise LoadError(
                f"{path} was built with TensorRT {record.tensorrt}, this is TensorRT {tensorrt}.",
                hint=_rebuild(path, record),
            )
        if record.sha256 != digest:
            raise LoadError(
                f"{path} is not the engine that {sidecar(path).name} describes: it was changed or cut short.",
                hint=_rebuild(path, record),
            )
    # The module and its libraries may be of different patch versions: here the module's is known, and in a plan the
    # libraries'.
    elif engine.version is not None and not compatible(engine.version, tensorrt, numbers=2):
        raise LoadError(
            f"{path} was built with TensorRT {engine.version}, this is TensorRT {tensorrt}.", hint=_rebuild(path)
        )
    if not (trust or made_here(digest) or _in_trusted_folder(path)):
        raise BadInput(
            f"{path} was not built on this machine, and an engine is code that runs with your rights.",
            hint=f"If you trust where it comes from, load it with trust=True, or name its folder in {TRUSTED}. "
            f"Else {_rebuild(path, record)[0].lower()}{_rebuild(path, record)[1:]}",
            param="model",
        )


def checksum(path: Path, *more: Path) -> str:
    """The SHA-256 of one file, or of several after one another, in hexadecimal.

    Raises:
        LoadError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for one in (path, *more):
        try:
            with one.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except OSError as error:
            raise LoadError(f"{one} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def engine_cache() -> Path:
    """The folder of engines that were derived here, and of what speeds up building them. It may not exist yet."""
    return cache_dir() / "tensorrt"


def remember_made_here(digest: str) -> None:
    """Note that the engine with this checksum was built on this machine, so that it is trusted wherever it lies."""
    marker = engine_cache() / "made-here" / digest
    marker.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()


def made_here(digest: str) -> bool:
    """Whether the engine with this checksum was built on this machine."""
    return bool(digest) and (engine_cache() / "made-here" / digest).is_file()


def _in_trusted_folder(path: Path) -> bool:
    real = path.resolve()
    folders = [folder for folder in os.environ.get(TRUSTED, "").split(os.pathsep) if folder]
    return any(real.is_relative_to(Path(folder).expanduser().resolve()) for folder in folders)


def _prefix(head: bytes) -> int:
    """The length of Ultralytics' text, or 0."""
    length = int.from_bytes(head[:4], "little")
    return length if head[4:5] == b"{" and 2 <= length <= _LONGEST_PREFIX else 0


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _version(head: bytes) -> str | None:
    # A plan of serialization version 0 holds major, minor, patch and build in a byte each; of others nothing is known.
    if head[4:8] != b"\0\0\0\0" or not head[_VERSION_AT]:
        return None
    return ".".join(str(number) for number in head[_VERSION_AT : _VERSION_AT + 3])


def _profile(profile: Mapping[str, Any]) -> Profile:
    made = {}
    for name, shapes in profile.items():
        low, best, high = (tuple(int(size) for size in shape) for shape in shapes)
        made[str(name)] = (low, best, high)
    return made


def _rebuild(path: Path, record: EngineRecord | None = None) -> str:
    if record is None:
        return f"Build it anew: llama-pajamas export tensorrt MODEL.onnx --output {path.name}"
    batch = next((f" --batch {low[0]}:{best[0]}:{high[0]}"
                  for profile in record.profiles for low, best, high in profile.values() if low), "")  # fmt: skip
    pictures = " --calibrate FOLDER" if record.precision == "int8" else ""
    return (
        f"Build it anew on this machine: llama-pajamas export tensorrt {record.source} "
        f"--precision {record.precision}{batch}{pictures} --output {path.name}"
    )


def _dotted(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"
