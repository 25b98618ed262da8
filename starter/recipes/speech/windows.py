"""What the speech model is trained on: windows of speech with Whisper's token sequence, made by worker processes."""

import mmap
import multiprocessing as mp
import queue
import random
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkContext

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_system._espeak import Espeak
from llama_pajamas_starter.speech import tokens
from llama_pajamas_starter.speech.data import Utterance, say, utterance
from llama_pajamas_starter.speech.sentences import sentence

#: eSpeak NG's own rate: windows are resampled on the training device.
RATE = 22_050


@dataclass(slots=True)
class Sequence:
    """Decoder input and targets of one window.

    ``target[i]`` is what follows ``given[i]`` (-1: no loss), ``sounds[i]`` the seconds in which it is spoken.
    """

    given: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    sounds: list[tuple[float, float]] = field(default_factory=list)

    def add(self, token: int, start: float = -1.0, end: float = -1.0) -> None:
        """Appends a token that is to be predicted."""
        self.target.append(token)
        self.sounds.append((start, end))
        self.given.append(token)

    def finish(self) -> None:
        """Drops the last input: nothing follows the end."""
        self.given.pop()


@dataclass(slots=True)
class Batch:
    """Windows of one length.

    Attributes:
        audio: int16, ``(batch, seconds * RATE)``.
        given, target: int32, ``(batch, positions)``, padded with the end of text and -1.
        sounds: float32, ``(batch, positions, 2)``, seconds; negative where unknown.
        speech: bool, ``(batch,)``: false where nobody speaks.
    """

    audio: npt.NDArray[np.int16]
    given: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    sounds: npt.NDArray[np.float32]
    speech: npt.NDArray[np.bool_]


class Reservoir:
    """Utterances to compose windows of; each is used a few times, then another takes its place."""

    def __init__(self, seed: int, known: frozenset[int], size: int = 3000) -> None:
        self.rng = random.Random(seed)
        self.engine = Espeak()
        self.known = known
        self.size = size
        self.held: list[Utterance] = []

    def _fresh(self) -> Utterance:
        while True:
            made = utterance(self.engine, self.rng, "train")
            if self.rng.random() < 0.12:  # several sentences in one breath
                text = " ".join([made.text, *(sentence(self.rng) for _ in range(self.rng.randint(1, 2)))])
                made = say(self.engine, text, made.manner) or made
            if made.duration < 20 and self.known.issuperset(made.tokens):
                return made

    def draw(self) -> Utterance:
        """An utterance; one draw in three makes a new one."""
        if len(self.held) < self.size:
            self.held.append(self._fresh())
            return self.held[-1]
        index = self.rng.randrange(self.size)
        if self.rng.random() < 1 / 3:
            self.held[index] = self._fresh()
        return self.held[index]


def compose(reservoir: Reservoir, seconds: float, audio: npt.NDArray[np.int16]) -> tuple[Sequence, bool]:
    """Fills ``audio`` with one window and writes down what is said in it.

    Half of the windows hold one utterance, the others as many as fit; some begin and end within a sentence, as windows
    over long audio do. One in twenty holds no speech.
    """
    rng = reservoir.rng
    audio[:] = 0
    placed: list[tuple[Utterance, float]] = []
    kind = rng.random()
    if kind >= 0.05:
        start = rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.0), rng.uniform(0, 1.0), rng.uniform(0, 4.0)))
        spoken = reservoir.draw()
        if rng.random() < 0.12:
            start = -rng.uniform(0.1, 0.8) * spoken.duration
        elif kind < 0.55:
            start = min(start, max(0.0, seconds - spoken.duration - 0.1))
        stop = seconds if kind > 0.75 else rng.uniform(0.3, 1.0) * seconds
        while True:
            placed.append((spoken, start))
            start += spoken.duration + rng.choice((rng.uniform(0.05, 0.4), rng.uniform(0.1, 1.0), rng.expovariate(1.0)))
            if kind < 0.55 or start > stop - 0.3:
                break
            spoken = reservoir.draw()
    for spoken, start in placed:
        first = round(start * RATE)
        samples = spoken.samples[max(0, -first) :]
        first = max(0, first)
        samples = samples[: len(audio) - first]
        audio[first : first + len(samples)] += samples
    return write_down(placed, seconds, rng, with_times=rng.random() < 0.6), bool(placed)


Sounding = list[tuple[int, float, float]]


def write_down(
    placed: list[tuple[Utterance, float]], seconds: float, rng: random.Random, *, with_times: bool
) -> Sequence:
    """The token sequence of a window.

    With timestamps, a last sentence that the window cuts is only announced by its start (as OpenAI trained Whisper: the
    next window begins there); without, its whole words are written.
    """
    sequence = Sequence()
    sequence.given.append(tokens.START_OF_TRANSCRIPT)
    if not placed or not with_times:
        sequence.target.append(-1 if placed else tokens.NO_SPEECH)
        sequence.sounds.append((-1.0, -1.0))
        sequence.given.append(tokens.FIRST_TIMESTAMP if with_times else tokens.NO_TIMESTAMPS)
    last = 0.0
    for index, (spoken, start) in enumerate(placed):
        begin, end = max(0.0, start), min(start + spoken.duration, seconds)
        announced = with_times and index > 0 and start + spoken.duration > seconds
        kept = _whole_words(spoken, start, seconds)
        if not kept and not announced:
            continue
        if with_times:
            # Decoders limit the first timestamp to one second.
            shown = min(begin, 1.0) if index == 0 and rng.random() < 0.5 else begin
            sequence.add(tokens.timestamp(shown), max(0.0, begin - 0.1), begin + 0.1)
        if announced:
            break
        following = placed[index + 1][1] if index + 1 < len(placed) else seconds
        if len(kept) and kept[-1][0] == spoken.tokens[-1]:  # the last mark lasts until somebody speaks again
            token, a, b = kept[-1]
            kept[-1] = (token, a, max(b, min(following, seconds)))
        for token, a, b in kept:
            sequence.add(token, a, b)
        last = end
        if with_times:
            sequence.add(tokens.timestamp(last), max(0.0, last - 0.1), last + 0.1)
    sequence.add(tokens.END_OF_TEXT, min(last, seconds - 0.2) if placed else -1.0, seconds if placed else -1.0)
    sequence.finish()
    return sequence


def _whole_words(spoken: Utterance, start: float, seconds: float) -> Sounding:
    """The tokens, and when each sounds, of the words that lie in the window as a whole."""
    sounding = [
        (token, start + a, start + b)
        for token, a, b in zip(spoken.tokens, spoken.times, spoken.times[1:], strict=False)
    ]
    kept = [item for item in sounding if item[2] <= seconds - 0.02] if start + spoken.duration > seconds else sounding
    if len(kept) < len(sounding):
        while kept and not _starts_word(sounding[len(kept)][0]):
            kept.pop()
    if start < 0:
        heard = [i for i, (token, a, _) in enumerate(kept) if a >= 0.02 and _starts_word(token)]
        kept = kept[heard[0] :] if heard else []
    return kept


def _starts_word(token: int) -> bool:
    return tokens.text_tokens()[token].startswith(b" ")


def with_prompt(sequence: Sequence, reservoir: Reservoir, length: int) -> Sequence:
    """The sequence after ``<|startofprev|>`` and the last ``length`` tokens of what was said before."""
    rng = reservoir.rng
    said: list[int] = []
    times = rng.random() < 0.5
    clock = rng.uniform(0, 20)
    while len(said) < length:
        spoken = rng.choice(reservoir.held)
        if times:
            said += [tokens.timestamp(clock), *spoken.tokens, tokens.timestamp(clock + spoken.duration)]
            clock = (clock + spoken.duration) % 29
        else:
            said += spoken.tokens
    prompt = [tokens.START_OF_PREVIOUS, *said[-length:]]
    return Sequence(
        prompt + sequence.given,
        [-1] * len(prompt) + sequence.target,
        [(-1.0, -1.0)] * len(prompt) + sequence.sounds,
    )


def make_batch(reservoir: Reservoir, seconds: float, audio: npt.NDArray[np.int16]) -> Batch:
    """Fills ``audio`` (``(batch, seconds * RATE)``) with windows."""
    rng = reservoir.rng
    longest = rng.choice((12, 40, 100, 223)) if rng.random() < 0.2 else 0
    made: list[Sequence] = []
    speech: list[bool] = []
    for row in audio:
        sequence, spoken = compose(reservoir, seconds, row)
        if longest and rng.random() < 0.7:
            sequence = with_prompt(sequence, reservoir, rng.randint(1, longest))
        made.append(sequence)
        speech.append(spoken)
    positions = min(448, -(-max(len(sequence.given) for sequence in made) // 16) * 16)
    given = np.full((len(made), positions), tokens.END_OF_TEXT, np.int32)
    target = np.full((len(made), positions), -1, np.int32)
    sounds = np.full((len(made), positions, 2), -1, np.float32)
    for index, sequence in enumerate(made):
        n = min(positions, len(sequence.given))
        given[index, :n] = sequence.given[:n]
        target[index, :n] = sequence.target[:n]
        sounds[index, :n] = sequence.sounds[:n]
    return Batch(audio, given, target, sounds, np.array(speech))


class Workers:
    """Processes that make batches into memory shared with this one.

    Args:
        count: processes.
        known: the tokens a sentence may consist of.
        stages: (seconds, batch) of each stage; :meth:`set_stage` says which is made.
        seed: of all randomness.
        slots: batches in flight.
    """

    def __init__(
        self, count: int, known: frozenset[int], stages: list[tuple[int, int]], seed: int, slots: int, reservoir: int
    ) -> None:
        context: ForkContext = mp.get_context("fork")
        self._memory = mmap.mmap(-1, slots * max(2 * seconds * RATE * batch for seconds, batch in stages))
        self._slot_bytes = len(self._memory) // slots
        self._stages = stages
        self._stage = context.Value("i", 0)
        self._free = context.Queue()
        self._ready = context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        self._processes = [
            context.Process(target=self._work, args=(seed + index, known, reservoir), daemon=True)
            for index in range(count)
        ]
        for process in self._processes:
            process.start()

    def _audio(self, slot: int, stage: int) -> npt.NDArray[np.int16]:
        seconds, batch = self._stages[stage]
        flat = np.frombuffer(self._memory, np.int16, batch * seconds * RATE, slot * self._slot_bytes)
        return flat.reshape(batch, seconds * RATE)

    def _work(self, seed: int, known: frozenset[int], reservoir: int) -> None:
        source = Reservoir(seed, known, reservoir)
        while True:
            slot = self._free.get()
            stage = self._stage.value
            batch = make_batch(source, self._stages[stage][0], self._audio(slot, stage))
            self._ready.put((slot, stage, batch.given, batch.target, batch.sounds, batch.speech))

    def set_stage(self, stage: int) -> None:
        """Makes windows of another stage from now on; batches in flight are still of the last."""
        self._stage.value = stage

    def get(self, timeout: float) -> tuple[int, Batch]:
        """The next batch and its slot, which :meth:`release` gives back once its audio is copied.

        Raises:
            queue.Empty: none came in time.
            RuntimeError: a worker has died.
        """
        try:
            slot, stage, *arrays = self._ready.get(timeout=timeout)
        except queue.Empty:
            if not all(process.is_alive() for process in self._processes):
                raise RuntimeError("a data worker has died") from None
            raise
        return slot, Batch(self._audio(slot, stage), *arrays)

    def release(self, slot: int) -> None:
        """Gives a slot back to the workers."""
        self._free.put(slot)

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.terminate()


if __name__ == "__main__":  # how fast one worker is
    source = Reservoir(1, frozenset(range(tokens.END_OF_TEXT)), 300)
    buffer = np.zeros((16, 30 * RATE), np.int16)
    for _ in range(6):
        begun = time.perf_counter()
        batch = make_batch(source, 30, buffer)
        print(f"{16 / (time.perf_counter() - begun):.0f} windows/s, {batch.given.shape}")
    print(tokens.decode(batch.given[0]), batch.target[0][:60], np.round(batch.sounds[0][:20], 2).tolist())
