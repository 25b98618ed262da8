"""Whisper, but for the network: what surrounds it is the same whatever computes it.

Here are the vocabulary, the rules for times, the choice of a token, the fallback to higher temperatures, silence, long
windows that are listened to again, the language, and the times of words. A runtime computes an encoder and a decoder
that remembers keys and values: it writes a :class:`~.model.WhisperModel`, five methods, and derives its backend from
:class:`~llama_pajamas_run_core.backends.whisper.WhisperSTTBackend`, whose ``_open`` makes one::

    class XWhisper:                          # llama_pajamas_run_core.whisper.model.WhisperModel
        sizes: Dimensions                    # Dimensions.of(config) reads OpenAI's names and Hugging Face's
        windows: int                         # how many windows of audio are computed together at most
        flexible: bool                       # whether fewer than 3000 frames (30 seconds) may be encoded

        def encode(self, mel):               # float32 [n, n_mels, frames] -> a handle of the encoded audio
        def start(self, audio):              # -> a handle of a transcript of that audio, empty
        def step(self, transcript, tokens):  # int32 [n, k] behind what it holds -> logits of the last, float32 [n, v]
        def align(self, audio, tokens):      # int32 [n, k] from the beginning -> scores of the alignment heads'
                                             # attention to the audio, float32 [n, heads, k, positions], or None
        def close(self): ...

    class XSTTBackend(WhisperSTTBackend):
        def _open(self, path, **options):
            return XWhisper(path, **options)

What a runtime may rely on:

- It is called from the one thread that owns the model. ``encode`` ends the use of every handle made before, ``start``
  and ``align`` that of the transcript before: a runtime can keep audio and transcript in buffers of its own (a
  stateful Core ML model, device memory of TensorRT), and the handles may be anything, None too.
- All rows of a batch are at the same position. ``n`` is the same from ``encode`` to ``step``, at most ``windows``.
  A row whose transcript has ended is given more end tokens until the others are done.
- ``step`` is called with several tokens at the beginning (a prompt, the opening) and with one afterwards; a runtime
  of fixed shapes loops over them. Together they are never more than ``sizes.n_text_ctx``.
- ``align`` is called once for a batch, and only where the times of words are asked for. Rows shorter than the longest
  are filled up with end tokens, whose scores are not looked at. A runtime whose network shows no attention returns
  None: words then share their segment by their lengths.
- Errors of the SDK leave it as those of ``errors.py``.

No layer above (backends, runtimes, ...) may be imported here, and nothing but numpy.
"""
