"""Choosing a token from logits with llama.cpp's samplers, under a grammar where there is one."""

import codecs
import ctypes
import math
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput, InferenceError
from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_gguf import _quick
from llama_pajamas_run_gguf.tokenizer import Tokenizer

#: llama.cpp's seed that means "a random one".
_RANDOM_SEED = 0xFFFFFFFF
#: ``llama_token_data``: token id, logit, probability.
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """A ``llama_token_data_array`` over numpy, used again for every token of every sequence.

    Args:
        size: tokens in the vocabulary.
    """

    def __init__(self, size: int) -> None:
        self._ids = np.arange(size, dtype=np.int32)
        self._data = np.zeros(size, _CANDIDATE)
        self._array: Any = llama_cpp.llama_token_data_array(
            data=self._data.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=size,
            selected=-1,
            sorted=False,
        )
        self.pointer = ctypes.byref(self._array)

    def fill(self, logits: npt.NDArray[np.float32]) -> None:
        """All tokens with their logits."""
        self._data["id"] = self._ids
        self._data["logit"] = logits
        self._reset(len(self._ids))

    def bar(self, tokens: Sequence[int]) -> None:
        """Rule tokens out, right after :meth:`fill`."""
        self._data["logit"][list(tokens)] = -math.inf

    def fill_one(self, token: int) -> None:
        """One token alone, to ask whether a grammar takes it."""
        self._data[0] = (token, 0.0, 0.0)
        self._reset(1)

    @property
    def selected(self) -> tuple[int, float]:
        """The chosen token and its logit.

        Raises:
            InferenceError: the samplers left nothing to choose.
        """
        index = self._array.selected
        if not 0 <= index < self._array.size:
            raise InferenceError("No token could be chosen.")
        chosen = self._array.data[index]
        return int(chosen.id), float(chosen.logit)

    @property
    def first_logit(self) -> float:
        """The first candidate's logit."""
        return float(self._array.data[0].logit)

    def _reset(self, size: int) -> None:
        self._array.data = self._data.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        self._array.size, self._array.selected, self._array.sorted = size, -1, False


class Grammar:
    """A GBNF grammar that follows an answer token by token.

    llama.cpp ends the process when a grammar is given a token that it does not take; this class always asks first.
    llama.cpp also counts any bytes that look like UTF-8 as a character, overlong ones for instance; here they must be.

    Args:
        vocab: the model's vocabulary.
        text: the grammar, in GBNF with a rule "root".
        tokenizer: of the model.

    Raises:
        BadInput: llama.cpp cannot read it, most often because of its size.
    """

    def __init__(self, vocab: Any, text: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._sampler: Any = llama_cpp.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._sampler:
            raise BadInput(
                "The grammar made from this schema is too large for llama.cpp.",
                hint="Use smaller limits (maxLength, maxItems) or fewer alternatives.",
                param="response_format",
            )

    def takes(self, token: int, candidates: Candidates) -> bool:
        """Whether the token may come next."""
        candidates.fill_one(token)
        _quick.sampler_apply(self._sampler, candidates.pointer)
        return candidates.first_logit != -math.inf

    def legible(self, token: int) -> bool:
        """Whether the text is still UTF-8 with the token."""
        state = self._decoder.getstate()
        try:
            self._decoder.decode(self._tokenizer.piece(token, special=True))
            pending = self._decoder.getstate()[0]
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(state)
        # Python waits for the third byte before it refuses half a surrogate pair; then nothing could follow.
        return not (len(pending) > 1 and pending[0] == 0xED and pending[1] >= 0xA0)

    def mask(self, candidates: Candidates) -> None:
        """Set the logits of all tokens that may not come next to minus infinity."""
        _quick.sampler_apply(self._sampler, candidates.pointer)

    def accept(self, token: int, candidates: Candidates) -> bool:
        """Go on by one token; False, and nothing changed, where it may not come next."""
        if not self.takes(token, candidates) or not self.legible(token):
            return False
        _quick.sampler_accept(self._sampler, token)
        self._decoder.decode(self._tokenizer.piece(token, special=True))
        return True

    def close(self) -> None:
        """Free it. Harmless when it is freed."""
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None


class Sampler:
    """One sequence's chain of llama.cpp samplers, in llama.cpp's own order.

    Args:
        settings: of the request.
        tokenizer: of the model.
        prompt: its tokens, which the repeat penalty counts too.
        context: the most tokens an answer can have.
        vocab: the model's vocabulary.
    """

    def __init__(
        self, settings: SamplingSettings, *, tokenizer: Tokenizer, prompt: Sequence[int], context: int, vocab: Any
    ) -> None:
        self.grammar: Grammar | None = None
        self._vocab = vocab
        self._tokenizer = tokenizer
        self._size = tokenizer.size
        self._chain: Any = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        self._add_bias(settings)
        self._add_penalties(settings, prompt, context)
        if settings.temperature <= 0:
            self._add(llama_cpp.llama_sampler_init_greedy())
            return
        if settings.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(settings.top_k))
        if settings.top_p < 1:
            self._add(llama_cpp.llama_sampler_init_top_p(settings.top_p, 1))
        if settings.min_p > 0:
            self._add(llama_cpp.llama_sampler_init_min_p(settings.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(settings.temperature))
        seed = settings.seed & 0xFFFFFFFF
        self._add(llama_cpp.llama_sampler_init_dist(0 if seed == _RANDOM_SEED else seed))

    def constrain(self, text: str | None, begun: str = "") -> None:
        """From now on follow a grammar, or none.

        Args:
            text: the grammar.
            begun: what is written of it already; where that does not fit it, there is nothing to follow.
        """
        if self.grammar is not None:
            self.grammar.close()
            self.grammar = None
        if text is not None:
            self.grammar = Grammar(self._vocab, text, self._tokenizer)
            candidates = Candidates(1)
            for token in self._tokenizer.encode(begun, special=False, add_special=False) if begun else ():
                if not self.grammar.accept(token, candidates):
                    self.constrain(None)
                    return

    def sample(self, context: Any, index: int, candidates: Candidates) -> int:
        """Choose the token for one output of the last decode call, and take note of it.

        Raises:
            InferenceError: no token fits the grammar, or the logits are not numbers.
        """
        if self.grammar is None:
            return int(_quick.sampler_sample(self._chain, context, index))
        token = self._sample_constrained(self.grammar, read_logits(context, index, self._size), candidates)
        _quick.sampler_accept(self._chain, token)
        return token

    @property
    def free(self) -> bool:
        """Whether no grammar holds: such samplers may draw on several threads, each its own."""
        return self.grammar is None

    def draw(self, context: Any, index: int) -> int:
        """As :meth:`sample` without a grammar, and without holding Python's lock."""
        return int(llama_cpp.llama_sampler_sample(self._chain, context, index))

    def _sample_constrained(self, grammar: Grammar, logits: npt.NDArray[np.float32], candidates: Candidates) -> int:
        # Asking the grammar about the one token chosen freely is much cheaper than about the whole vocabulary.
        masked = False
        barred: list[int] = []
        while True:
            candidates.fill(logits)
            candidates.bar(barred)
            if masked:
                grammar.mask(candidates)
            _quick.sampler_apply(self._chain, candidates.pointer)
            token, logit = candidates.selected
            if logit == -math.inf:
                raise InferenceError("No token of this model continues the required format.")
            if grammar.accept(token, candidates):
                return token
            if masked:
                barred.append(token)
            masked = True

    def close(self) -> None:
        """Free the samplers. Harmless when they are freed."""
        self.constrain(None)
        if self._chain:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def _add_bias(self, settings: SamplingSettings) -> None:
        if settings.logit_bias:
            biases = (llama_cpp.llama_logit_bias * len(settings.logit_bias))(
                *(llama_cpp.llama_logit_bias(token, bias) for token, bias in settings.logit_bias.items())
            )
            self._add(llama_cpp.llama_sampler_init_logit_bias(self._size, len(biases), biases))

    def _add_penalties(self, settings: SamplingSettings, prompt: Sequence[int], context: int) -> None:
        if settings.repeat_penalty != 1 and settings.repeat_window:
            window = context if settings.repeat_window < 0 else settings.repeat_window
            repeat = llama_cpp.llama_sampler_init_penalties(self._size, window, settings.repeat_penalty, 0.0, 0.0)
            for token in prompt[-window:]:
                _quick.sampler_accept(repeat, token)
            self._add(repeat)
        if settings.frequency_penalty or settings.presence_penalty:
            self._add(
                llama_cpp.llama_sampler_init_penalties(
                    self._size, context, 1.0, settings.frequency_penalty, settings.presence_penalty
                )
            )


def read_logits(context: Any, index: int, size: int) -> npt.NDArray[np.float32]:
    """The logits of one output of the last decode call, float32 [size]; overwritten by the next call."""
    pointer = _quick.get_logits_ith(context, index)
    if not pointer:
        raise InferenceError("llama.cpp gave no logits.")
    return np.ctypeslib.as_array(pointer, (size,))
