"""The models there are: those that packages bring, those pulled, and those named by their path."""

import difflib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from os import PathLike
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.artifacts.formats import identify, size_of
from llama_pajamas_run_core.artifacts.onnx import vision_abilities
from llama_pajamas_run_core.artifacts.store import Manifest, Store
from llama_pajamas_run_core.errors import BadInput, UnknownModel
from llama_pajamas_run_core.types.tasks import Task

_log = logging.getLogger(__name__)

#: Where packages register functions that return ModelEntry objects.
GROUP = "llama_pajamas.models"
#: What a model may be called. Ids also appear in addresses and file names, so ".." is not allowed either.
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,200}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model in one format.

    Attributes:
        format: one of the names in ``artifacts.formats``.
        materialize: gives the file or folder; derives it first where that is needed. May block for seconds, may be
            called from several threads at once, and raises LoadError where it fails.
        size: bytes on disk, roughly where it is still to be derived.
        options: the runtime's load options that suit it best.
    """

    format: str
    materialize: Callable[[], Path]
    size: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model.

    Attributes:
        id: the name by which it is asked for.
        task: what it does.
        artifacts: the formats it is to be had in.
        description: one sentence for people.
        owned_by: who made it.
        created: seconds since 1970, or 0 where unknown.
        aliases: other names for it ("whisper-1").
        default: whether it serves its task when no model is named.
        abilities: what it can do within its task ("detect", "classify", "embed", "embed_text"); empty where unknown.
    """

    id: str
    task: Task
    artifacts: tuple[Artifact, ...]
    description: str = ""
    owned_by: str = "llama-pajamas"
    created: int = 0
    aliases: tuple[str, ...] = ()
    default: bool = False
    abilities: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in (self.id, *self.aliases):
            check_id(name)

    def may(self, ability: str | None) -> bool:
        """Whether it can do this, as far as is known."""
        return ability is None or not self.abilities or ability in self.abilities

    @property
    def formats(self) -> frozenset[str]:
        """The formats it is to be had in."""
        return frozenset(artifact.format for artifact in self.artifacts)

    def artifact(self, format: str) -> Artifact:
        """The artifact in a format.

        Raises:
            BadInput: there is none.
        """
        for artifact in self.artifacts:
            if artifact.format == format:
                return artifact
        have = ", ".join(sorted(self.formats))
        raise BadInput(f"The model '{self.id}' is not available as {format}: it is {have}.", param="model")


def is_id(id: str) -> bool:
    """Whether a model may be called that."""
    return ID_PATTERN.fullmatch(id) is not None and ".." not in id


def check_id(id: str) -> str:
    """The id itself.

    Raises:
        BadInput: it cannot be a model's id.
    """
    if not is_id(id):
        raise BadInput(
            f"'{id[:80]}' cannot be a model's name.",
            hint="Use up to 201 letters, digits and . _ / : @ -, beginning with a letter or digit, without '..'.",
            param="model",
        )
    return id


class Catalogue:
    """All models of this process. Safe to use from several threads.

    Where one id is given twice, a path given by hand wins over a pulled model, and that over one that a package brings.

    Args:
        store: the pulled models; the default store if None.
        packages: whether to list the models that installed packages bring.
    """

    def __init__(self, *, store: Store | None = None, packages: bool = True) -> None:
        self.store = Store() if store is None else store
        self._packages = packages
        self._lock = threading.Lock()
        self._added: dict[str, ModelEntry] = {}
        self._paths: dict[str, Path] = {}  # of those that were added by their path
        self._from_packages: dict[str, ModelEntry] | None = None
        self._from_store: tuple[tuple[Manifest, ...], dict[str, ModelEntry]] = ((), {})

    def add(self, entry: ModelEntry) -> ModelEntry:
        """Add a model; one of the same id is replaced."""
        with self._lock:
            self._put(entry)
        return entry

    def add_path(self, path: str | PathLike[str], id: str | None = None) -> ModelEntry:
        """Add the model in a file or folder, whatever format it is in.

        Args:
            path: the file or folder.
            id: what to call it; made from the file's name if None.

        Raises:
            BadInput: there is no such file, it is of no known format, of one that no backend loads, or the id is bad.
            LoadError: it is a model file, but damaged.
        """
        path = Path(path).expanduser().absolute()
        found = identify(path)
        if found.task is None:
            raise BadInput(f"{path} is {found.label}, which no backend loads as it is.", hint=found.advice)
        artifact = Artifact(found.name, lambda: path, size_of(path))
        created = int(path.stat().st_mtime)
        abilities = vision_abilities(path) if found.task is Task.VISION else frozenset[str]()
        about = f"{found.label} from {path.name}"
        with self._lock:
            name = self._free_id(path) if id is None else id
            entry = ModelEntry(name, found.task, (artifact,), about, "user", created, abilities=abilities)
            self._put(entry)
            self._paths[name] = path
        return entry

    def _put(self, entry: ModelEntry) -> None:
        self._added.pop(entry.id, None)
        self._paths.pop(entry.id, None)
        self._added[entry.id] = entry

    def _free_id(self, path: Path) -> str:
        """An id made from a file's name; numbered where another model already has it."""
        name = _id_from(path)
        taken = [id for id in self._added if self._paths.get(id) != path]
        return next(
            free
            for number in range(1, len(taken) + 2)
            if (free := f"{name}-{number}" if number > 1 else name) not in taken
        )

    def entries(self) -> tuple[ModelEntry, ...]:
        """All models: those added by hand, then the pulled ones, then those that packages bring."""
        with self._lock:
            merged = dict(self._added)
            for source in (self._stored(), self._packaged()):
                for id, entry in source.items():
                    merged.setdefault(id, entry)
        return tuple(merged.values())

    def get(self, id: str) -> ModelEntry:
        """The model of that id or alias.

        Raises:
            UnknownModel: there is none; the message lists what there is, the likeliest first.
        """
        entries = self.entries()
        for entry in entries:
            if entry.id == id:
                return entry
        for entry in entries:
            if id in entry.aliases:
                return entry
        names = [entry.id for entry in entries]
        folded = {name.casefold(): name for name in names}
        close = [folded[name] for name in difflib.get_close_matches(id[:201].casefold(), folded, n=3, cutoff=0.6)]
        available = tuple(dict.fromkeys((*close, *names)))
        if not available:
            raise UnknownModel(id, hint="There are no models yet: `llama-pajamas models pull OWNER/NAME` fetches one.")
        listed = f"Available: {', '.join(available)}."
        hint = f"Did you mean {' or '.join(close)}? {listed}" if close else listed
        raise UnknownModel(id, available=available, hint=hint)

    def default(self, task: Task, ability: str | None = None) -> ModelEntry | None:
        """The model that serves a task when none is named.

        The first one added by hand, else the one that is declared to be the default, else the first there is.

        Args:
            task: what it is for.
            ability: what it has to be able to do within the task ("classify"); None for anything.
        """
        with self._lock:
            added = set(self._added)
        able = [entry for entry in self.entries() if entry.task is task and entry.may(ability)]
        return min(able, key=lambda entry: (entry.id not in added, not entry.default), default=None)

    def _packaged(self) -> dict[str, ModelEntry]:
        if self._from_packages is None:
            self._from_packages = {}
            for entry in _package_entries() if self._packages else ():
                self._from_packages.setdefault(entry.id, entry)
        return self._from_packages

    def _stored(self) -> dict[str, ModelEntry]:
        manifests = self.store.manifests()
        known, entries = self._from_store
        if manifests is not known:  # the store gives the same tuple until something changes
            entries = {}
            for manifest in manifests:
                try:
                    entries[manifest.id] = self._entry(manifest)
                except BadInput as error:  # one that cannot be named must not take the others down
                    _log.warning("model=%s is left out: %s", manifest.id, error)
            self._from_store = (manifests, entries)
        return entries

    def _entry(self, manifest: Manifest) -> ModelEntry:
        store = self.store
        artifact = Artifact(manifest.format, lambda: store.path(manifest.id), manifest.size)
        return ModelEntry(
            manifest.id,
            manifest.task,
            (artifact,),
            f"Pulled from {manifest.source}.",
            manifest.source.partition("/")[0],
            manifest.created,
            manifest.aliases,
        )


def _package_entries() -> Iterable[ModelEntry]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        yield from _load(point)


def _load(point: EntryPoint) -> tuple[ModelEntry, ...]:
    """What one package brings; a broken package is logged and brings nothing."""
    try:
        return tuple(point.load()())
    except Exception:
        _log.exception("models of %s could not be listed from %s", point.name, point.value)
        return ()


def _id_from(path: Path) -> str:
    name = path.name if path.is_dir() else path.stem
    cleaned = re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-._@")
    return check_id(re.sub(r"\.\.+", ".", cleaned)[:200] or "model")
