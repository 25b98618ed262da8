"""The voices of macOS as a voice engine, through PyObjC.

Interface: AVSpeechSynthesizer in Apple's AVFAudio. The frameworks come as arguments, so that a test can stand in for
them on another system.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.dsp.stretch import stretch
from llama_pajamas_run_core.errors import InferenceError, LoadError, MissingDependency
from llama_pajamas_run_core.types.audio import Voice

logger = logging.getLogger(__name__)

#: Most of Apple's voices speak at this rate; what another one makes is resampled to it.
_RATE: Final = 22_050
#: Seconds without a buffer after which the synthesizer counts as stuck.
_PATIENCE: Final = 20.0
#: Seconds for which the run loop is run at a time.
_TICK: Final = 0.02
#: AVAudioCommonFormat
_FLOAT32, _INT16, _INT32 = 1, 3, 4
#: AVSpeechSynthesisVoiceGender
_GENDERS: Final[dict[int, Literal["female", "male"]]] = {1: "male", 2: "female"}


class AVFoundationEngine:
    """Voice ids are Apple's identifiers ("com.apple.voice.compact.en-US.Samantha"); a voice's name is understood too.

    Args:
        av: the module AVFoundation; imported where it is None.
        foundation: the module Foundation; imported where it is None.

    Raises:
        MissingDependency: PyObjC's bindings are not installed.
        LoadError: the system has no voice.
    """

    title = "AVFoundation"

    def __init__(self, av: Any = None, foundation: Any = None) -> None:
        if av is None or foundation is None:
            av, foundation = _frameworks()
        self._av, self._foundation = av, foundation
        self._native = {str(voice.identifier()): voice for voice in av.AVSpeechSynthesisVoice.speechVoices()}
        if not self._native:
            raise LoadError("This Mac has no voice.", hint="Add one in System Settings, Accessibility, Spoken Content.")
        current = str(av.AVSpeechSynthesisVoice.currentLanguageCode() or "en-US")
        listed = [_voice(native) for native in self._native.values()]
        # The default is a voice of the user's language; the joke voices ("Bells", "Zarvox") come last.
        listed.sort(key=lambda voice: (voice.languages[0] != current, "speech.synthesis.voice" in voice.id))
        self._listed = tuple(listed)
        self._synthesizer: Any = av.AVSpeechSynthesizer.alloc().init()

    @property
    def rate(self) -> int:
        return _RATE

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._listed

    def find(self, wanted: str) -> Voice | None:
        wanted = wanted.casefold()
        for voice in self._listed:
            if wanted in (voice.id.casefold(), voice.name.casefold()):
                return voice
        speaks = [voice for voice in self._listed if voice.languages[0].casefold() == wanted]
        speaks += [voice for voice in self._listed if voice.languages[0].casefold().split("-")[0] == wanted]
        return speaks[0] if speaks else None

    def speak(self, text: str, voice: str, speed: float) -> Iterator[npt.NDArray[np.float32]]:
        utterance = self._av.AVSpeechUtterance.speechUtteranceWithString_(text)
        utterance.setVoice_(self._native[voice])
        # The utterance's own rate stays: its scale is undocumented, and some voices are mute below the default.
        if speed == 1.0:
            yield from self._pieces(utterance)
        elif pieces := list(self._pieces(utterance)):
            yield stretch(np.concatenate(pieces), _RATE, speed)

    def close(self) -> None:
        if self._synthesizer is not None:
            self._synthesizer.stopSpeakingAtBoundary_(self._av.AVSpeechBoundaryImmediate)
            self._synthesizer = None

    def _pieces(self, utterance: Any) -> Iterator[npt.NDArray[np.float32]]:
        """The utterance's sound, as the synthesizer hands it over; an empty buffer is its end."""
        waiting: list[npt.NDArray[np.float32]] = []
        failure: list[Exception] = []
        ended = False

        def on_buffer(buffer: Any) -> None:
            nonlocal ended
            try:  # an exception must not travel through Objective-C
                if int(buffer.frameLength()):
                    waiting.append(_samples(buffer))
                else:
                    ended = True
            except Exception as error:
                failure.append(error)

        synthesizer = self._synthesizer
        synthesizer.writeUtterance_toBufferCallback_(utterance, on_buffer)
        loop, dates = self._foundation.NSRunLoop.currentRunLoop(), self._foundation.NSDate
        heard = time.monotonic()
        try:
            # The buffers come through the run loop of the thread that asked for them, and nobody else runs it here.
            while not ended or waiting:
                if waiting:
                    heard = time.monotonic()
                    yield waiting.pop(0)
                    continue
                if failure:
                    raise InferenceError(f"A buffer of macOS's voice could not be read: {failure[0]}.") from failure[0]
                if time.monotonic() - heard > _PATIENCE:
                    raise InferenceError(
                        f"The voice '{utterance.voice().name()}' has been silent for {_PATIENCE:.0f} seconds.",
                        hint="See in System Settings, Accessibility, Spoken Content that it is downloaded.",
                    )
                started = time.monotonic()
                loop.runUntilDate_(dates.dateWithTimeIntervalSinceNow_(_TICK))
                if not waiting and not ended and time.monotonic() - started < _TICK / 2:
                    time.sleep(_TICK / 2)  # a run loop without a source returns at once
        finally:
            if not ended:
                synthesizer.stopSpeakingAtBoundary_(self._av.AVSpeechBoundaryImmediate)


def _frameworks() -> tuple[Any, Any]:
    """The modules AVFoundation and Foundation."""
    try:
        import AVFoundation
        import Foundation
    except ImportError as error:
        raise MissingDependency(
            "The voices of macOS",
            package="pyobjc-framework-AVFoundation",
            install="uv pip install llama-pajamas-run-system",
        ) from error
    return AVFoundation, Foundation


def _samples(buffer: Any) -> npt.NDArray[np.float32]:
    """An AVAudioPCMBuffer's first channel, float32 at ``_RATE``."""
    count = int(buffer.frameLength())
    layout = buffer.format()
    kind, rate = int(layout.commonFormat()), round(float(layout.sampleRate()))
    stride = int(buffer.stride())
    if kind == _FLOAT32:
        data = np.frombuffer(bytes(buffer.floatChannelData()[0].as_buffer(count * stride)), np.float32)
        samples = data[::stride].copy()
    elif kind == _INT16:
        ints = np.frombuffer(bytes(buffer.int16ChannelData()[0].as_buffer(count * stride)), np.int16)
        samples = ints[::stride].astype(np.float32) / 32768.0
    elif kind == _INT32:
        wide = np.frombuffer(bytes(buffer.int32ChannelData()[0].as_buffer(count * stride)), np.int32)
        samples = (wide[::stride].astype(np.float64) / 2147483648.0).astype(np.float32)
    else:
        raise InferenceError(f"macOS's voice gives samples of the unknown format {kind}.")
    return resample(samples, rate, _RATE)


def _voice(native: Any) -> Voice:
    return Voice(
        str(native.identifier()), str(native.name()), (str(native.language()),), _GENDERS.get(int(native.gender()))
    )
