"""Pictures and sound in conversations, through llama.cpp's multimodal library (mtmd) and a model's projector."""

import ctypes
import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import mtmd_cpp

from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_gguf import logs
from llama_pajamas_run_gguf._session import Session, check_file, reason
from llama_pajamas_run_gguf.engine.spans import Span


class Chunk:
    """mtmd's picture or sound, freed with the last request that may need it."""

    def __init__(self, native: Any) -> None:
        self.native = native

    def __del__(self) -> None:
        mtmd_cpp.mtmd_input_chunk_free(self.native)


class Projector:
    """A model's eyes or ears: what makes pictures or sound into vectors among its tokens'.

    Args:
        path: the projector's GGUF file.
        session: the loaded language model.
        threads: to compute with.
        batch: the most tokens of one decode call.

    Raises:
        LoadError: the file is missing, damaged, or not for this model.
    """

    def __init__(self, path: Path, session: Session, *, threads: int, batch: int) -> None:
        check_file(path)
        mtmd_cpp.mtmd_log_set(logs.receive, None)
        mtmd_cpp.mtmd_helper_log_set(logs.receive, None)
        #: What stands for a picture or sound in a rendered prompt. Nobody can guess it, so nobody can write it.
        self.marker = f"<__media_{secrets.token_hex(8)}__>"
        self._batch = batch
        self._lock = threading.Lock()
        self._users = 0
        self._free = threading.Condition(self._lock)
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = bool(llama_cpp.llama_supports_gpu_offload())
        params.n_threads = threads
        params.print_timings = False
        params.warmup = False
        self._marker_bytes = self.marker.encode()  # mtmd keeps the pointer
        params.media_marker = self._marker_bytes
        with logs.collected() as lines:
            self._context: Any = mtmd_cpp.mtmd_init_from_file(str(path).encode(), session.model, params)
        if not self._context:
            raise LoadError(f"{path} is no projector for {session.path.name}{reason(lines)}")
        self.sees = bool(mtmd_cpp.mtmd_support_vision(self._context))
        self.hears = bool(mtmd_cpp.mtmd_support_audio(self._context))
        self._rate = int(mtmd_cpp.mtmd_get_audio_sample_rate(self._context)) if self.hears else 0

    def tokenize(self, text: str, media: Sequence[Image | Audio], *, add_special: bool) -> tuple[list[int], list[Span]]:
        """Take a prompt apart. May be called from any thread.

        Args:
            text: the rendered conversation with a marker for each picture or sound.
            media: the pictures and sounds, in order.
            add_special: whether tokens that the model wants at the beginning are added.

        Returns:
            the tokens, where negative numbers, which depend on its content, stand for each cell of a picture or sound;
            and where these are.

        Raises:
            BadInput: a picture or sound cannot be used, or the model was closed.
        """
        if text.count(self.marker) != len(media):
            raise BadInput("The model's chat template leaves out pictures or sounds.", param="messages")
        with self._lock:
            if self._context is None:
                raise BadInput("The model was closed.")
            self._users += 1
        bitmaps = []
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            bitmaps = [self._bitmap(item) for item in media]
            data = text.encode("utf-8", "replace")
            prompt = mtmd_cpp.mtmd_input_text(data, len(data), add_special, True)
            array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            with logs.collected() as lines:
                code = mtmd_cpp.mtmd_tokenize(self._context, chunks, ctypes.byref(prompt), array, len(bitmaps))
            if code:
                raise BadInput(f"A picture or sound could not be used{reason(lines)}", param="messages")
            return self._read(chunks)
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd_cpp.mtmd_bitmap_free(bitmap)
            with self._lock:
                self._users -= 1
                self._free.notify_all()

    def compute(self, span: Span, context: Any, sequence: int, position: int) -> None:
        """Encode a picture or sound and put it into a sequence's cache. Runs on the owner thread.

        Raises:
            InferenceError: it could not be done; what is in the cache by then must be dropped.
        """
        after = llama_cpp.llama_pos(0)
        with logs.collected() as lines:
            code = mtmd_cpp.mtmd_helper_eval_chunk_single(
                self._context, context, span.chunk.native, position, sequence, self._batch, False, ctypes.byref(after)
            )
        if code:
            raise InferenceError(f"A picture or sound could not be computed{reason(lines)}")

    def close(self) -> None:
        """Free it, once nobody uses it."""
        with self._lock:
            context, self._context = self._context, None
            self._free.wait_for(lambda: not self._users)
        if context:
            mtmd_cpp.mtmd_free(context)

    def _bitmap(self, item: Image | Audio) -> Any:
        if isinstance(item, Image):
            values: npt.NDArray[Any] = np.ascontiguousarray(item.pixels)
            pointer: Any = values.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
            bitmap = mtmd_cpp.mtmd_bitmap_init(item.width, item.height, pointer)
        else:
            values = np.ascontiguousarray(resample(item.samples, item.rate, self._rate), np.float32)
            pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            bitmap = mtmd_cpp.mtmd_bitmap_init_from_audio(len(values), pointer)
        digest = hashlib.blake2b(values.data, digest_size=16)
        digest.update(repr(values.shape).encode())
        mtmd_cpp.mtmd_bitmap_set_id(bitmap, digest.hexdigest().encode())
        return bitmap

    def _read(self, chunks: Any) -> tuple[list[int], list[Span]]:
        tokens: list[int] = []
        spans: list[Span] = []
        seen: Counter[bytes] = Counter()
        for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
            count = int(mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk))
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
                size = ctypes.c_size_t()
                pointer: Any = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
                tokens += pointer[: size.value]
                continue
            # llama.cpp ends the process if tokens that look at each other both ways do not fit one call.
            if mtmd_cpp.mtmd_decode_use_non_causal(self._context, chunk) and count > self._batch:
                raise BadInput(
                    f"A picture has {count} tokens, but a step takes {self._batch}.",
                    hint="Load the model with a larger n_batch.",
                    param="messages",
                )
            spans.append(
                Span(
                    len(tokens),
                    count,
                    int(mtmd_cpp.mtmd_input_chunk_get_n_pos(chunk)),
                    Chunk(mtmd_cpp.mtmd_input_chunk_copy(chunk)),
                )
            )
            # One picture may become several chunks, which its name does not tell apart.
            name = mtmd_cpp.mtmd_input_chunk_get_id(chunk) or b""
            tokens += _stand_ins(name + b"#%d" % seen[name], count)
            seen[name] += 1
        return tokens, spans


def _stand_ins(name: bytes, count: int) -> list[int]:
    """Negative numbers in the place of a picture's tokens, the same for the same picture."""
    first = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")
    return [-1 - (first + step) % 0x7FFFFFF0 for step in range(count)]
