"""A spoken turn: audio in, transcript, reply, audio out, with the stages overlapped.

The language model writes sentence n + 1 while sentence n is being spoken; what is heard is already playing by then.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TypeVar

from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.errors import Cancelled
from llama_pajamas_run_core.text.sentences import SentenceSplitter
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions, TranscribeOptions, Transcript
from llama_pajamas_run_core.types.chat import Chat, GenerationOptions, GenerationRequest, Message

#: Sentences that may wait to be spoken, and pieces of sound that may wait to be played, before their makers wait.
_AHEAD = 32
#: How often, in seconds, a waiting stage looks whether the reader has left.
_GLANCE = 0.05

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said to the model."""

    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Written:
    """The next characters of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """The next piece of the reply's sound.

    Attributes:
        audio: at the voice's rate.
        sentence: the text it belongs to; "" for all but the first piece of a sentence.
    """

    audio: Audio
    sentence: str


@dataclass(frozen=True, slots=True)
class Timings:
    """When things happened, in seconds from the start of the turn; 0 for what never did.

    Attributes:
        heard: the transcript was complete.
        first_token: the reply began.
        first_sentence: its first sentence was complete.
        first_audio: its first sound was ready: what a person waits for.
        written: the reply was complete.
        spoken: all its sound was ready.
    """

    heard: float = 0.0
    first_token: float = 0.0
    first_sentence: float = 0.0
    first_audio: float = 0.0
    written: float = 0.0
    spoken: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a turn.

    Attributes:
        reply: the whole reply; empty where nothing was heard.
        timings: when each stage came through.
    """

    reply: str
    timings: Timings


VoiceEvent = Heard | Written | Spoken | Done


def turn(
    stt: STTBackend,
    llm: LLMBackend,
    tts: TTSBackend,
    audio: Audio,
    *,
    history: Sequence[Message] = (),
    hear: TranscribeOptions | None = None,
    think: GenerationOptions | None = None,
    speak: SpeakOptions | None = None,
) -> Iterator[VoiceEvent]:
    """Answer a spoken question aloud.

    Args:
        stt: hears.
        llm: thinks.
        tts: speaks.
        audio: the question.
        history: the conversation so far.
        hear: how to transcribe.
        think: how to generate.
        speak: how to speak.

    Returns:
        one Heard, then Written and Spoken as they come, then one Done. Closing the iterator early (the person speaks
        again) stops the language model and the voice. Silence is heard as nothing and not answered.

    Raises:
        PajamasError: what one of the stages raised.
    """
    clock = _Clock()
    transcript = stt.transcribe(audio, hear)
    clock.mark("heard")
    yield Heard(transcript)
    if not transcript.text:
        yield Done("", clock.timings())
        return
    chat = Chat((*history, Message("user", transcript.text)))
    reply = _Reply(llm, tts, GenerationRequest(chat, think or GenerationOptions()), speak or SpeakOptions(), clock)
    yield from reply.events()
    yield Done(reply.text, clock.timings())


class _Clock:
    """Remembers when each stage first came through."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._marks: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        self._marks.setdefault(stage, time.perf_counter() - self._start)

    def timings(self) -> Timings:
        return Timings(**self._marks)


class _Reply:
    """The overlapped half of a turn: a writing thread, a speaking thread, and the reader of their events."""

    def __init__(
        self, llm: LLMBackend, tts: TTSBackend, request: GenerationRequest, speak: SpeakOptions, clock: _Clock
    ) -> None:
        self._llm, self._tts, self._request, self._speak, self._clock = llm, tts, request, speak, clock
        self._sentences: Queue[str | None] = Queue(_AHEAD)
        self._events: Queue[Written | Spoken | BaseException | None] = Queue(_AHEAD)
        self._left = threading.Event()
        self.text = ""

    def events(self) -> Iterator[Written | Spoken]:
        threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"voice-{name}", daemon=True)
            for name, work in (("writer", self._write), ("speaker", self._say))
        ]
        for thread in threads:
            thread.start()
        try:
            while (event := self._events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._left.set()
            for thread in threads:
                thread.join()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if not self._left.is_set():
                self._offer(self._events, error)

    def _offer(self, queue: Queue[T], item: T) -> None:
        """Put an item where the reader may be slow, or gone."""
        while not self._left.is_set():
            try:
                return queue.put(item, timeout=_GLANCE)
            except Full:
                continue
        raise Cancelled("The turn was interrupted.")

    def _take(self, queue: Queue[T]) -> T:
        while not self._left.is_set():
            try:
                return queue.get(timeout=_GLANCE)
            except Empty:
                continue
        raise Cancelled("The turn was interrupted.")

    def _write(self) -> None:
        splitter = SentenceSplitter()
        parts: list[str] = []
        with self._llm.submit(self._request) as generation:
            for delta in generation:
                if delta.text:
                    self._clock.mark("first_token")
                    parts.append(delta.text)
                    self._offer(self._events, Written(delta.text))
                    for sentence in splitter.push(delta.text):
                        self._clock.mark("first_sentence")
                        self._offer(self._sentences, sentence)
        for sentence in splitter.flush():
            self._clock.mark("first_sentence")
            self._offer(self._sentences, sentence)
        self._clock.mark("written")
        self.text = "".join(parts)
        self._offer(self._sentences, None)

    def _say(self) -> None:
        while (sentence := self._take(self._sentences)) is not None:
            said = sentence
            for piece in self._tts.stream(sentence, self._speak):
                self._clock.mark("first_audio")
                self._offer(self._events, Spoken(piece, said))
                said = ""
        self._clock.mark("spoken")
        self._offer(self._events, None)
