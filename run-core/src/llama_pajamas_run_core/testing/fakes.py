"""Backends without models: deterministic, as fast or slow as asked, and as faulty. No weights, no network, no SDK.

They go the same way as real ones: through a descriptor (:data:`FAKE_RUNTIME`), a catalogue (:func:`fake_catalogue`)
and the pool. What they answer can be told in advance, so that a test of a server can tell a right answer from a wrong
one.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.catalogue import Artifact, Catalogue, ModelEntry
from llama_pajamas_run_core.artifacts.store import Store
from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities, SingleLaneLLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput, ContextTooLong, InferenceError, LoadError
from llama_pajamas_run_core.pool.plan import Plan, Planner
from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.audio import Audio, Segment, SpeakOptions, TranscribeOptions, Voice, Word
from llama_pajamas_run_core.types.chat import (
    Chat,
    Delta,
    GenerationRequest,
    JsonFormat,
    NamedTool,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    Usage,
)
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Image, VisionSpec, VisionTask

_TOKEN = re.compile(r"\s*\S+|\s+")
_VECTOR = 16


class FakeLoad:
    """What all fakes do when they are loaded.

    Load options:
        load_seconds: how long loading takes.
        load_error: the message of the LoadError that loading ends with; "crash" for an error that nobody foresaw.
    """

    def _pretend_to_load(self, path: Path, load_seconds: float = 0.0, load_error: str | None = None) -> None:
        if not path.exists():
            raise LoadError(f"There is no file {path}.")
        time.sleep(load_seconds)
        if load_error == "crash":
            raise RuntimeError(f"segmentation fault in {path} at 0x7f00deadbeef")
        if load_error is not None:
            raise LoadError(f"{path}: {load_error}")

    def _unload(self) -> None:
        """Nothing was made."""


class _Echo:
    """What the fake language models say: a function of the request."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.prompt = _tokens_of(request)
        self.calls: tuple[ToolCallDelta, ...] = ()
        self.reasoning: list[str] = []
        self.words = _TOKEN.findall(self._answer())
        limit = request.options.max_tokens
        self.finish = "length" if limit is not None and limit < len(self.words) else "stop"
        if limit is not None:
            self.words = self.words[:limit]

    def _answer(self) -> str:
        asked, options = self.request.input, self.request.options
        if isinstance(asked, tuple):
            return " ".join(f"t{token}" for token in asked)
        if isinstance(asked, str):
            return asked
        text = _last_text(asked)
        if options.response_format is not None:
            return json.dumps(_instance(options.response_format, text), ensure_ascii=False)
        if (tool := _tool_for(asked, text)) is not None:
            arguments = json.dumps(_of_schema(tool.parameters, text), ensure_ascii=False)
            half = len(arguments) // 2
            self.calls = (
                ToolCallDelta(0, "call_0", tool.name, arguments[:half]),
                ToolCallDelta(0, arguments=arguments[half:]),
            )
            return ""
        if text.startswith("think: "):
            self.reasoning = ["The person", " wants an echo."]
            text = text.removeprefix("think: ")
        return text

    def deltas(self) -> Iterator[Delta]:
        """Everything but the end."""
        for piece in self.reasoning:
            yield Delta(reasoning=piece)
        for call in self.calls:
            yield Delta(tool_calls=(call,))
        for word in self.words:
            yield Delta(text=word, logprobs=self._logprobs(word))

    def end(self, written: int) -> Delta:
        """The last delta, after so many deltas."""
        usage = Usage(len(self.prompt), written, reasoning_tokens=len(self.reasoning))
        return Delta(finish_reason="tool_calls" if self.calls else self.finish, usage=usage)  # type: ignore[arg-type]

    def _logprobs(self, word: str) -> tuple[TokenLogprob, ...]:
        wanted = self.request.options.logprobs
        if wanted is None:
            return ()
        top = tuple(TokenLogprob(f"{word}{i or ''}", f"{word}{i or ''}".encode(), -0.5 - i) for i in range(wanted))
        return (TokenLogprob(word, word.encode(), -0.5, top),)


class _FakeText(FakeLoad, LLMBackend):
    """What both fake language models share: an echo of the last message of the user.

    A message that begins with "think: " is reasoned about first; one that names a tool calls it; "fail now" fails
    before the first token and "fail later" after the third.

    Load options:
        pace: seconds for each token.
        context: the context's length in tokens.
        omni: whether it takes pictures and sound.
        lanes: how many requests it serves at once (the batching one alone).
    """

    runtime = "fake"

    def _load(
        self,
        path: Path,
        *,
        pace: float = 0.0,
        context: int = 4096,
        omni: bool = False,
        lanes: int = 4,
        **how: Any,
    ) -> None:
        self._pretend_to_load(path, **how)
        self._pace, self._context, self._omni, self._lanes = pace, context, omni, lanes
        self._running: WeakSet[Generation] = WeakSet()
        self.steps = 0

    def submit(self, request: GenerationRequest) -> Generation:
        _check_choice(request.input)
        generation = super().submit(request)
        self._running.add(generation)
        return generation

    def close(self) -> None:
        for generation in tuple(self._running) if self.loaded else ():
            generation.cancel()
        super().close()

    @property
    def capabilities(self) -> LLMCapabilities:
        return LLMCapabilities(
            tools=True, json=True, logprobs=True, images=self._omni, audio=self._omni, embeddings=True
        )

    @property
    def context_length(self) -> int:
        return self._context

    @property
    def details(self) -> Mapping[str, Any]:
        return {"device": "imagination", "context_length": self._context}

    def _count(self, request: GenerationRequest) -> int:
        return len(_tokens_of(request))

    def _embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        return np.stack([_vector(str(text)) for text in inputs]), sum(len(_words(text)) for text in inputs)

    def _say(self, request: GenerationRequest) -> Iterator[Delta]:
        echo = _Echo(request)
        text = "" if isinstance(request.input, tuple) else _last_text(request.input)
        if "fail now" in text:
            raise InferenceError("the imagined device at 0xdeadbeef is on fire")
        written = 0
        for delta in echo.deltas():
            time.sleep(self._pace)
            if "fail later" in text and written == 3:
                raise InferenceError("the imagined device at 0xdeadbeef is on fire")
            self.steps += 1
            written += 1
            yield Delta(delta.text, delta.reasoning, delta.tool_calls, delta.logprobs, usage=echo.end(written).usage)
        yield echo.end(written)

    def _check_length(self, request: GenerationRequest) -> None:
        tokens = len(_tokens_of(request))
        if tokens >= self._context:
            raise ContextTooLong(tokens=tokens + 1, limit=self._context)


class FakeLLM(_FakeText, SingleLaneLLMBackend):
    """A fake language model that serves one request after another."""

    def _generate(self, request: GenerationRequest) -> Iterator[Delta]:
        self._check_length(request)
        yield from self._say(request)


class FakeBatchLLM(_FakeText):
    """A fake language model that serves several requests at once."""

    @property
    def lanes(self) -> int:
        return self._lanes

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        self._check_length(request)
        threading.Thread(target=self._run, args=(request, generation), name="fake-lane", daemon=True).start()

    def _run(self, request: GenerationRequest, generation: Generation) -> None:
        usage = Usage(0, 0)
        try:
            for delta in self._say(request):
                usage = delta.usage or usage
                if delta.finish_reason is not None:
                    generation.finish(delta.finish_reason, usage)
                    return
                generation.push(
                    delta.text, reasoning=delta.reasoning, tool_calls=delta.tool_calls, logprobs=delta.logprobs
                )
                if generation.cancelled:
                    generation.finish("stop", usage)
                    return
        except Exception as error:
            generation.fail(error)


class FakeSTT(FakeLoad, STTBackend):
    """A fake speech recognizer: it counts, one word for each half second of sound.

    Load options:
        pace: seconds for each window.
    """

    runtime = "fake"

    def _load(self, path: Path, *, pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        self._pace = pace

    @property
    def languages(self) -> tuple[str, ...]:
        return ("en", "de")

    @property
    def translates(self) -> bool:
        return True

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        time.sleep(self._pace)
        count = max(int(audio.duration / 0.5), 1)
        words = tuple(
            Word(_number(i + 1), audio.duration * i / count, audio.duration * (i + 1) / count, 0.9)
            for i in range(count)
        )
        text = " ".join(word.text for word in words)
        yield Segment(
            text,
            0.0,
            audio.duration,
            words if options.word_times else (),
            tuple(range(count)),
            avg_logprob=-0.1,
            temperature=options.temperature or 0.0,
        )


class FakeTTS(FakeLoad, TTSBackend):
    """A fake voice: a short tone for each word, the pitch told by the voice.

    A sentence with "fail later" in it fails after its first word.

    Load options:
        pace: seconds for each sentence.
    """

    runtime = "fake"
    #: Seconds of tone and of pause for each word at speed 1.
    TONE, PAUSE = 0.2, 0.1

    def _load(self, path: Path, *, pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        self._pace = pace
        self.sentences = 0

    @property
    def rate(self) -> int:
        return 22_050

    @property
    def voices(self) -> tuple[Voice, ...]:
        return (
            Voice("low", "Low", ("en-US",), "male"),
            Voice("high", "High", ("en-US",), "female"),
        )

    def _speak(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        time.sleep(self._pace)
        self.sentences += 1
        pitch = 220.0 if options.voice == "low" else 440.0
        for index, _ in enumerate(text.split()):
            if index == 1 and "fail later" in text:
                raise InferenceError("the imagined loudspeaker at 0xdeadbeef is on fire")
            times = np.arange(int(self.rate * self.TONE / options.speed)) / self.rate
            tone = 0.5 * np.sin(2 * np.pi * pitch * times)
            pause = np.zeros(int(self.rate * self.PAUSE / options.speed))
            yield Audio(np.concatenate([tone, pause]).astype(np.float32), self.rate)


class FakeVision(FakeLoad, VisionBackend):
    """A fake look at colours. Its classes are red, green and blue.

    It detects the rectangle of one pure colour, or segments its pixels, classifies by the mean colour, and embeds
    pictures and colour names in one space.

    Load options:
        does: "detect", "segment", "classify" or "embed".
        pace: seconds for each batch.
    """

    runtime = "fake"
    LABELS = ("red", "green", "blue")

    def _load(self, path: Path, *, does: str = "detect", pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        if does not in ("detect", "segment", "classify", "embed"):
            raise LoadError(f"{path}: a fake look does not {does}.")
        self._does, self._pace = does, pace

    @property
    def spec(self) -> VisionSpec:
        tasks: dict[str, frozenset[VisionTask]] = {
            "detect": frozenset({"detect"}),
            "segment": frozenset({"detect", "segment"}),
            "classify": frozenset({"classify"}),
            "embed": frozenset({"embed", "embed_text"}),
        }
        if self._does == "detect":
            return VisionSpec(tasks["detect"], 64, 64, "letterbox", labels=self.LABELS, head="nms")
        if self._does == "segment":
            return VisionSpec(tasks["segment"], 64, 64, "letterbox", labels=self.LABELS, head="nms-seg")
        if self._does == "classify":
            return VisionSpec(tasks["classify"], 16, 16, "stretch", labels=self.LABELS, head="logits")
        return VisionSpec(tasks["embed"], 16, 16, "stretch", head="embedding")

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        time.sleep(self._pace)
        if self._does in ("detect", "segment"):
            found = [_rectangles(picture) for picture in batch]
            most = max(len(boxes) for boxes in found)
            padded = [boxes + [[0.0] * 6] * (most - len(boxes)) for boxes in found]
            table = np.array(padded, np.float32).reshape(len(batch), most, 6)
            if self._does == "detect":
                return [table]
            # Each colour's own prototype: above 0 where the picture has just that colour.
            colours = np.stack([np.stack([_pure(picture, channel) for channel in range(3)]) for picture in batch])
            weights = np.eye(3, dtype=np.float32)[table[..., 5].astype(int)]
            return [np.concatenate([table, weights], axis=2), colours - np.float32(0.5)]
        colours = batch.mean(axis=(2, 3))
        return [colours * 10 if self._does == "classify" else colours]

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [[float(label in text) for label in self.LABELS] for text in texts]
        return np.array([row if any(row) else [1.0, 1.0, 1.0] for row in rows], np.float32)


#: The fakes as a runtime.
FAKE_RUNTIME = RuntimeInfo(
    name="fake",
    title="fakes",
    rooms={
        Task.LLM: Room(f"{__name__}:FakeLLM", ("fake-llm",), "echo", (), ""),
        Task.VISION: Room(f"{__name__}:FakeVision", ("fake-vision",), "colours", (), ""),
        Task.STT: Room(f"{__name__}:FakeSTT", ("fake-stt",), "counting", (), ""),
        Task.TTS: Room(f"{__name__}:FakeTTS", ("fake-tts",), "tones", (), ""),
    },
    hardware="anything",
    supports=lambda profile: None,
)

_CLASSES = {Task.LLM: FakeLLM, Task.VISION: FakeVision, Task.STT: FakeSTT, Task.TTS: FakeTTS}


def fake_entry(id: str, task: Task, *, size: int = 1000, **more: Any) -> ModelEntry:
    """A model of the catalogue that a fake plays.

    Args:
        id: its name.
        task: what it does.
        size: bytes that it seems to have.
        more: further fields of the entry.
    """
    artifact = Artifact(f"fake-{task}", lambda: Path(__file__), size)
    return ModelEntry(id, task, (artifact,), f"A fake for {task.label}.", "fakes", 1_700_000_000, **more)


def fake_catalogue(root: Path, *entries: ModelEntry) -> Catalogue:
    """A catalogue of fakes alone.

    Args:
        root: an empty folder, for the store of pulled models.
        entries: the models; without any, one for each task and kind of look.
    """
    catalogue = Catalogue(store=Store(root), packages=False)
    for entry in entries or (
        fake_entry("echo", Task.LLM, aliases=("gpt-4o",), default=True),
        fake_entry("team/echo-batch", Task.LLM),
        fake_entry("echo-omni", Task.LLM),
        fake_entry("counter", Task.STT, aliases=("whisper-1",), default=True),
        fake_entry("tones", Task.TTS, aliases=("tts-1",), default=True),
        fake_entry("colour-detector", Task.VISION, default=True, abilities=frozenset({"detect"})),
        fake_entry("colour-segmenter", Task.VISION, abilities=frozenset({"detect", "segment"})),
        fake_entry("colour-classifier", Task.VISION, abilities=frozenset({"classify"})),
        fake_entry("colour-embedder", Task.VISION, abilities=frozenset({"embed", "embed_text"})),
    ):
        catalogue.add(entry)
    return catalogue


def fake_planner(options: Mapping[str, Mapping[str, Any]] | None = None) -> Planner:
    """Plans every model of :func:`fake_catalogue`; a model takes as much memory as its artifact's size says.

    Args:
        options: load options by model id, beside those that the standard models need.
    """
    standard: dict[str, dict[str, Any]] = {
        "echo-omni": {"omni": True},
        "colour-segmenter": {"does": "segment"},
        "colour-classifier": {"does": "classify"},
        "colour-embedder": {"does": "embed"},
    }

    def plan(entry: ModelEntry) -> Plan:
        artifact = entry.artifacts[0]
        kind = FakeBatchLLM if entry.id.endswith("-batch") else _CLASSES[entry.task]
        merged = {**standard.get(entry.id, {}), **(options or {}).get(entry.id, {})}
        return Plan("fake", lambda: kind, artifact.materialize, artifact.size, merged)

    return plan


def _words(source: str | tuple[int, ...]) -> Sequence[str | int]:
    return _TOKEN.findall(source) if isinstance(source, str) else source


def _tokens_of(request: GenerationRequest) -> Sequence[str | int]:
    if isinstance(request.input, Chat):
        return [word for message in request.input.messages for word in ("<turn>", *_words(message.text))]
    return _words(request.input)


def _last_text(asked: Chat | str) -> str:
    """The last message of a user or tool, its pictures and sounds in words."""
    if isinstance(asked, str):
        return asked
    spoken = [message for message in asked.messages if message.role in ("user", "tool")]
    if not spoken:
        return ""
    content = spoken[-1].content
    if content is None or isinstance(content, str):
        return content or ""
    named: list[str] = []
    for part in content:
        if isinstance(part, Image):
            named.append(f"[image {part.width}x{part.height}]")
        elif isinstance(part, Audio):
            named.append(f"[audio {part.duration:.1f} s]")
        else:
            named.append(part)
    return " ".join(named)


def _check_choice(asked: Chat | str | tuple[int, ...]) -> None:
    if isinstance(asked, Chat) and isinstance(choice := asked.tool_choice, NamedTool):
        names = [tool.name for tool in asked.tools]
        if choice.name not in names:
            raise BadInput(f"There is no tool '{choice.name}' among {names}.", param="tool_choice")


def _tool_for(chat: Chat, text: str) -> Tool | None:
    choice = chat.tool_choice
    if isinstance(choice, NamedTool):
        return next((tool for tool in chat.tools if tool.name == choice.name), None)
    if choice == "none" or not chat.tools:
        return None
    named = next((tool for tool in chat.tools if tool.name in text), None)
    return named or (chat.tools[0] if choice == "required" else None)


def _instance(format: JsonFormat, text: str) -> Any:
    return {"text": text} if format.schema is None else _of_schema(format.schema, text)


def _of_schema(schema: Mapping[str, Any], text: str) -> Any:
    """A value that satisfies a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "string":
            return text
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return [_of_schema(schema.get("items", {"type": "string"}), text)]
        case "null":
            return None
    return {name: _of_schema(inner, text) for name, inner in schema.get("properties", {}).items()}


def _vector(text: str) -> npt.NDArray[np.float32]:
    if not text:
        raise BadInput("There is nothing to embed.")
    digest = hashlib.shake_128(text.encode("utf-8", "replace")).digest(_VECTOR)
    return np.frombuffer(digest, np.uint8).astype(np.float32) - 127.5


def _rectangles(picture: npt.NDArray[np.float32]) -> list[list[float]]:
    """The rectangle around all pixels of each pure colour: x1, y1, x2, y2, score, class."""
    found: list[list[float]] = []
    for channel in range(3):
        rows, columns = np.nonzero(_pure(picture, channel))
        if len(rows):
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append([*map(float, box), 0.9 - 0.1 * channel, float(channel)])
    return found


def _pure(picture: npt.NDArray[np.float32], channel: int) -> npt.NDArray[np.bool_]:
    """Where a picture [3, h, w] has one colour alone."""
    others = [picture[other] for other in range(3) if other != channel]
    alone: npt.NDArray[np.bool_] = (picture[channel] > 0.8) & (others[0] < 0.3) & (others[1] < 0.3)
    return alone


def _number(value: int) -> str:
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[value] if value < len(names) else str(value)
