"""Guessing an answer's next tokens, to check several in one step.

A guess costs a little more computation in the step and saves whole steps when it is right; every token is still chosen
by the sequence's own sampler from the model's own logits. What steps cost and how often guesses are right is learned
while running, so guessing stops where it does not pay: among many requests, or in text that cannot be foretold.

Source: https://arxiv.org/abs/2211.17192 (speculative decoding), https://github.com/apoorvumang/prompt-lookup-decoding
"""

from array import array
from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np

from llama_pajamas_run_gguf.engine.sequence import Sequence

#: The most tokens guessed at once.
MAX_DRAFT = 8
#: A guess must promise this much more speed to be worth its uncertainty.
_WORTH = 1.05
_SMOOTHING = 0.15
#: After so many steps without a guess, a sequence's luck is tried again.
_RETRY = 48


class Drafter(Protocol):
    """Guesses."""

    def propose(self, sequences: Many[Sequence], length: int) -> list["array[int]"]:
        """For each sequence the tokens that may come next, at most so many; none where there is no guess."""

    @property
    def cost(self) -> float:
        """Seconds that one more guessed token costs, for all sequences together, beside the model's own steps."""

    def forget(self, sequence: Sequence) -> None:
        """The sequence ended."""


class LookupDrafter:
    """Guesses that what followed the last few tokens before will follow them again: quotations, code, edited text."""

    cost = 0.0

    def __init__(self, longest: int = 4, shortest: int = 2) -> None:
        self._sizes = range(longest, shortest - 1, -1)

    def propose(self, sequences: Many[Sequence], length: int) -> list["array[int]"]:
        """As :class:`Drafter` says."""
        return [self._look_up(sequence.tokens, length) for sequence in sequences]

    def forget(self, sequence: Sequence) -> None:
        """Nothing is remembered."""

    def _look_up(self, tokens: "array[int]", length: int) -> "array[int]":
        known = np.frombuffer(tokens, np.int32)
        for size in self._sizes:
            if len(known) <= size:
                continue
            end = known[-size:]
            starts = np.flatnonzero(known[:-size] == end[0])
            for offset in range(1, size):
                starts = starts[known[starts + offset] == end[offset]]
            if len(starts):
                # The latest place with enough behind it; in a short loop, only earlier ones have.
                enough = starts[starts + size + length <= len(known)]
                after = int(enough[-1] if len(enough) else starts[0]) + size
                return tokens[after : after + length]
        return array("i")


class StepTimes:
    """What a step costs by the number of its tokens, learned from the steps themselves."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def learn(self, tokens: int, seconds: float) -> None:
        """Take note of a step."""
        old = self._known.get(tokens)
        self._known[tokens] = seconds if old is None else old + _SMOOTHING * (seconds - old)

    def predict(self, tokens: int) -> float | None:
        """Seconds for a step of so many tokens; None while nothing is known. What is not known is hoped to be cheap."""
        if tokens in self._known:
            return self._known[tokens]
        below = [(n, t) for n, t in self._known.items() if n < tokens]
        above = [(n, t) for n, t in self._known.items() if n > tokens]
        if not below:
            return min(above)[1] if above else None
        low, start = max(below)
        if not above:
            return start
        high, end = min(above)
        return start + (end - start) * (tokens - low) / (high - low)


class Speculator:
    """Decides how much to guess.

    Args:
        drafter: makes the guesses.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._times = StepTimes()
        self.proposed = 0
        self.accepted = 0

    def drafts(self, answering: Many[Sequence], others: int) -> list["array[int]"]:
        """For each sequence the tokens to check in the next step, as many as pay.

        Args:
            answering: sequences whose next token is due.
            others: tokens that the step computes besides.
        """
        none = [array("i")] * len(answering)
        base = len(answering) + others
        step = self._times.predict(base)
        free = not self._drafter.cost
        if free:  # then guesses are made anyway, and compared with what comes
            guesses = self._drafter.propose(answering, MAX_DRAFT)
            for sequence, guess in zip(answering, guesses, strict=True):
                self._compare(sequence, guess)
        lucky = [s for s in answering if not s.spans and (s.luck > 0.1 or s.steps_without_guess >= _RETRY)]
        for sequence in answering:
            sequence.steps_without_guess += 1
        if step is None or not lucky:
            return none
        if free:
            sizes = [len(guess) for sequence, guess in zip(answering, guesses, strict=True) if sequence in lucky]
        else:
            sizes = [MAX_DRAFT] * len(lucky)
        length = self._worthwhile([s.luck for s in lucky], sizes, base, step)
        if not length:
            return none
        if not free:
            made = dict(zip(lucky, self._drafter.propose(lucky, length), strict=True))
            guesses = [made.get(sequence, array("i")) for sequence in answering]
        result = []
        for sequence, guess in zip(answering, guesses, strict=True):
            draft = guess[: min(length, sequence.end - len(sequence.tokens) - 1)] if sequence in lucky else array("i")
            if len(draft):
                sequence.steps_without_guess, sequence.expected = 0, None
            result.append(draft)
        return result

    def learn(self, tokens: int, seconds: float) -> None:
        """Take note of what a step cost."""
        self._times.learn(tokens, seconds)

    def judge(self, sequence: Sequence, proposed: int, accepted: int) -> None:
        """Take note of how many guessed tokens were right."""
        if not proposed:
            return
        self.proposed += proposed
        self.accepted += accepted
        # The tokens up to the first wrong one were tried.
        tried = min(accepted + 1, proposed)
        for number in range(tried):
            sequence.luck += _SMOOTHING * ((number < accepted) - sequence.luck)

    def forget(self, sequence: Sequence) -> None:
        """The sequence ended."""
        self._drafter.forget(sequence)

    def _compare(self, sequence: Sequence, guess: "array[int]") -> None:
        """See whether the last guess, which was not used, would have been right; keep this one for the same."""
        if sequence.expected is not None:
            length, token = sequence.expected
            if length < len(sequence.tokens):
                sequence.luck += _SMOOTHING * ((sequence.tokens[length] == token) - sequence.luck)
        sequence.expected = (len(sequence.tokens), guess[0]) if len(guess) else None

    def _worthwhile(self, luck: Many[float], sizes: Many[int], base: int, step: float) -> int:
        """The length of guesses that promises the most tokens in time; 0 where none beats not guessing.

        Args:
            luck: how often guesses were right, for each sequence.
            sizes: how many tokens can be guessed for each.
            base: tokens of the step without guesses.
            step: its seconds.
        """
        best, best_rate = 0, _WORTH * base / step
        chances = [min(max(chance, 0.3), 0.98) for chance in luck]
        for length in range(1, MAX_DRAFT + 1):
            lengths = [min(length, size) for size in sizes]
            gained = sum(p * (1 - p**n) / (1 - p) for p, n in zip(chances, lengths, strict=True))
            seconds = self._times.predict(base + sum(lengths))
            assert seconds is not None  # since that of ``base`` is known
            rate = (base + gained) / (seconds + length * self._drafter.cost)
            if rate > best_rate:
                best, best_rate = length, rate
        return best
