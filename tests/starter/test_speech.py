"""The starter speech model: its data, its checkpoint, its ggml file, and what it hears."""

import random
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.mel import mel_filterbank
from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.text.word_errors import edit_distance, word_error_rate
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_system._espeak import Espeak
from llama_pajamas_starter.speech import checkpoint, data, ggml, sentences, tokens
from llama_pajamas_starter.speech.checkpoint import SIZES, Checkpoint, TokenTable
from llama_pajamas_starter.speech.evaluate import held_out

SMALL = replace(SIZES, n_audio_state=8, n_audio_head=2, n_audio_layer=1, n_text_state=8, n_text_head=2, n_text_layer=1)


@pytest.fixture(scope="module")
def starter() -> Checkpoint:
    return Checkpoint.load()


def _stored(sizes: Dimensions, table: TokenTable) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    state = sizes.n_text_state

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float16)

    return {
        "encoder.conv1.weight": array(state, sizes.n_mels, 3),
        "encoder.conv1.bias": array(state),
        "decoder.positional_embedding": array(sizes.n_text_ctx, state),
        "tokens.ids": table.ids,
        "tokens.row_of": table.row_of,
        "tokens.is_capital": table.is_capital,
        "tokens.rows": array(table.rows, state),
        "tokens.capital": array(state),
        "tokens.unused": array(state),
        "tokens.timestamps": array(2 * checkpoint.TIMESTAMP_WAVES, state),
    }


# Tokens


def test_tokens_of_the_english_vocabulary() -> None:
    assert len(tokens.text_tokens()) == 50256
    special = tokens.special_tokens()
    assert special["<|startoftranscript|>"] == tokens.START_OF_TRANSCRIPT
    assert special["<|startofprev|>"] == tokens.START_OF_PREVIOUS
    assert special["<|nospeech|>"] == tokens.NO_SPEECH
    assert special["<|notimestamps|>"] == tokens.NO_TIMESTAMPS
    assert special["<|0.00|>"] == tokens.FIRST_TIMESTAMP
    assert special["<|30.00|>"] == tokens.VOCABULARY_SIZE - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" What is twenty-three plus nineteen?", [1867, 318, 8208, 12, 15542, 5556, 43063, 30]),
        (" I don't know.", [314, 836, 470, 760, 13]),
    ],
)
def test_encode_as_gpt2_does(text: str, expected: list[int]) -> None:
    assert tokens.encode(text) == expected
    assert tokens.decode([*expected, tokens.END_OF_TEXT]) == text


def test_encode_keeps_any_text() -> None:
    text = " Zoë paid 12 € _for_ it -  didn't she?\n"
    assert tokens.decode(tokens.encode(text)) == text


def test_timestamps_are_clamped() -> None:
    assert tokens.timestamp(1.5) == tokens.FIRST_TIMESTAMP + 75
    assert tokens.timestamp(-1) == tokens.FIRST_TIMESTAMP
    assert tokens.timestamp(99) == tokens.VOCABULARY_SIZE - 1


# Sentences


def test_splits_are_disjoint() -> None:
    rng = random.Random(5)
    training = [sentences.sentence(rng, "train") for _ in range(3000)]
    held = [sentences.sentence(rng, "held-out") for _ in range(300)]
    assert all(sentences.is_held_out(text) for text in held)
    parts = [part for text in training for part in sentences.sentence_parts(text)]
    assert not any(sentences.is_held_out(text) for text in (*training, *parts))


def test_split_ignores_case_and_punctuation() -> None:
    rng = random.Random(6)
    for _ in range(200):
        text = sentences.sentence(rng, "held-out")
        assert sentences.is_held_out(text.lower().replace(",", "").replace("-", " "))


def test_sentences_are_written_as_spoken() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        text = sentences.sentence(rng)
        assert re.fullmatch(r"[A-Z][A-Za-z' ,.?!-]*[.?!]", text)


def test_sentences_are_reproducible() -> None:
    assert [sentences.sentence(random.Random(9)) for _ in range(3)] == [sentences.sentence(random.Random(9))] * 3


# Speech


def test_held_out_voices_are_not_trained() -> None:
    rng = random.Random(8)
    trained = {data.Manner.draw(rng, "train").voice for _ in range(5000)}
    held = {data.Manner.draw(rng, "held-out").voice for _ in range(500)}
    assert not trained & held
    assert data.DEMO_VOICE not in trained
    assert not any(voice.startswith(data.HELD_OUT_ACCENT) for voice in trained)


def test_words_are_timed() -> None:
    made = data.say(Espeak(), "Please, turn off the lamp in the garden.")
    assert made is not None
    words = made.words()
    assert [word for word, _ in words] == ["Please,", "turn", "off", "the", "lamp", "in", "the", "garden."]
    starts = [start for _, start in words]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < 0.05
    assert starts[-1] < made.duration
    # The pause that the comma makes belongs to the comma.
    comma = made.tokens.index(tokens.encode(",")[0])
    assert made.times[comma + 1] - made.times[comma] > 0.1


def test_resampling_keeps_a_tone() -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)).astype(np.int16)
    heard = data.to_16k(tone, 22_050)
    expected = 8000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(heard) == 16_000
    assert np.abs(heard - expected)[500:-500].max() < 2e-3


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noise_has_the_ratio_asked_for(kind: data.Noise) -> None:
    rng = np.random.default_rng(1)
    speech = np.sin(np.arange(32_000) / 10).astype(np.float32)
    voices = [rng.standard_normal(9000).astype(np.float32) for _ in range(4)]
    noisy = data.add_noise(speech, 10, rng, kind, voices)
    ratio = 10 * np.log10(np.mean(speech**2) / np.mean((noisy - speech) ** 2))
    assert ratio == pytest.approx(10, abs=0.05)


# Metrics


def test_edit_distance() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance([], ["a"]) == 1
    assert edit_distance(["a", "b"], ["a", "b"]) == 0


def test_word_error_rate_ignores_case_punctuation_and_hyphens() -> None:
    assert word_error_rate([("Twenty-three, please.", "twenty three please")]) == 0
    assert word_error_rate([("One two three four.", "One two four.")]) == 0.25
    assert word_error_rate([("Yes.", ""), ("No.", "No.")]) == 0.5


# Checkpoint


def test_compact_embedding_expands(tmp_path: Path) -> None:
    what, lower, unknown = tokens.encode(" What")[0], tokens.encode(" what")[0], tokens.encode(" zebra")[0]
    table = TokenTable.of({what, lower})
    stored = _stored(SMALL, table)
    checkpoint.save(tmp_path, SMALL, stored)
    loaded = Checkpoint.load(tmp_path)
    embedding = loaded.tensors["decoder.token_embedding.weight"]
    assert embedding.shape == (tokens.VOCABULARY_SIZE, 8)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding[what] - embedding[lower], stored["tokens.capital"], atol=1e-5)
    np.testing.assert_array_equal(embedding[unknown], stored["tokens.unused"])
    rows = stored["tokens.rows"].astype(np.float32)
    np.testing.assert_allclose(embedding[table.ids[~table.is_capital.astype(bool)]], rows, atol=rows.max() / 120)
    times = embedding[tokens.FIRST_TIMESTAMP :]
    assert len(np.unique(times, axis=0)) == tokens.TIMESTAMPS
    assert loaded.tensors["encoder.positional_embedding"].shape == (1500, 8)
    assert loaded.alignment_heads == ((0, 0), (0, 1))


def test_float16_keeps_what_it_is_given(tmp_path: Path) -> None:
    stored = _stored(SMALL, TokenTable.of(set(tokens.encode(" a lamp"))))
    checkpoint.save(tmp_path, SMALL, stored, eight_bits=False)
    read = checkpoint.read(tmp_path / "model.safetensors")
    assert read.keys() == stored.keys()
    for name, value in stored.items():
        np.testing.assert_array_equal(read[name], value)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, SMALL, _stored(SMALL, TokenTable.of(set())))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(LoadError, match=re.escape(str(tmp_path))):
        Checkpoint.load(tmp_path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=re.escape(str(tmp_path))):
        Checkpoint.load(tmp_path)


def _read_ggml(path: Path) -> tuple[tuple[int, ...], np.ndarray, list[bytes], dict[str, np.ndarray]]:
    raw = path.read_bytes()
    header = struct.unpack_from("<12i", raw)
    rows, columns = struct.unpack_from("<2i", raw, 48)
    mel = np.frombuffer(raw, np.float32, rows * columns, 56).reshape(rows, columns)
    at = 56 + 4 * rows * columns
    (count,) = struct.unpack_from("<i", raw, at)
    at += 4
    vocabulary = []
    for _ in range(count):
        (size,) = struct.unpack_from("<i", raw, at)
        vocabulary.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    tensors: dict[str, np.ndarray] = {}
    while at < len(raw):
        dims, size, kind = struct.unpack_from("<3i", raw, at)
        shape = struct.unpack_from(f"<{dims}i", raw, at + 12)[::-1]
        at += 12 + 4 * dims
        name = raw[at : at + size].decode()
        dtype = np.float16 if kind else np.float32
        tensors[name] = np.frombuffer(raw, dtype, int(np.prod(shape)), at + size).reshape(shape)
        at += size + tensors[name].nbytes
    return header, mel, vocabulary, tensors


def test_ggml_holds_the_checkpoint(tmp_path: Path, starter: Checkpoint) -> None:
    header, mel, vocabulary, tensors = _read_ggml(ggml.write(tmp_path / "model.bin", starter))
    sizes = starter.dimensions
    assert header[1:] == (
        51864, 1500, sizes.n_audio_state, sizes.n_audio_head, sizes.n_audio_layer,
        448, sizes.n_text_state, sizes.n_text_head, sizes.n_text_layer, 80, 1,
    )  # fmt: skip
    np.testing.assert_array_equal(mel, mel_filterbank(80, 400, 16_000))
    assert vocabulary[1867] == b" What"
    assert tensors.keys() == starter.tensors.keys()
    assert tensors["encoder.conv1.bias"].shape == (sizes.n_audio_state, 1)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor.astype(np.float32).reshape(-1), starter.tensors[name].reshape(-1), atol=2e-3)


def test_starter_is_small() -> None:
    assert (checkpoint.FOLDER / "model.safetensors").stat().st_size < 4e6


# What it hears, through whisper.cpp


class Whisper:
    """whisper.cpp with word times from the model's alignment heads."""

    def __init__(self, path: Path) -> None:
        self.api = pytest.importorskip("_pywhispercpp")
        parameters = self.api.whisper_context_default_params()
        parameters.use_gpu = False
        parameters.flash_attn = False  # it would switch the alignment off
        parameters.dtw_token_timestamps = True
        parameters.dtw_aheads_preset = self.api.whisper_alignment_heads_preset.WHISPER_AHEADS_N_TOP_MOST
        parameters.dtw_n_top = 1
        self.context = self.api.whisper_init_from_file_with_params(str(path), parameters)

    def hear(self, wave: np.ndarray) -> tuple[str, list[tuple[str, float]]]:
        """The transcript, and every word with the time at which its last letter ends."""
        api, context = self.api, self.context
        parameters = api.whisper_full_default_params(api.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
        parameters.n_threads = 1
        parameters.print_progress = parameters.print_timestamps = False
        parameters.no_timestamps = parameters.token_timestamps = True
        parameters.suppress_blank = False  # or an empty transcript is forbidden
        assert api.whisper_full(context, parameters, wave, len(wave)) == 0
        text, words = "", []
        for segment in range(api.whisper_full_n_segments(context)):
            for index in range(api.whisper_full_n_tokens(context, segment)):
                token = api.whisper_full_get_token_id(context, segment, index)
                if token >= tokens.END_OF_TEXT:
                    continue
                piece = tokens.decode([token])
                text += piece
                if piece in ".,?!":
                    continue
                ends = api.whisper_full_get_token_data(context, segment, index).t_dtw / 100
                if piece.startswith(" "):
                    words.append((piece.strip(), ends))
                else:
                    words[-1] = (words[-1][0] + piece, ends)
        return text.strip(), words


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory, starter: Checkpoint) -> Whisper:
    return Whisper(ggml.write(tmp_path_factory.mktemp("speech") / "model.bin", starter))


def test_hears_held_out_sentences(whisper: Whisper) -> None:
    spoken = held_out(8, seed=1)
    heard = [(item.text, whisper.hear(data.padded(item.waveform(), 0.3, 0.5))[0]) for item in spoken]
    assert word_error_rate(heard) <= 0.05, heard


def test_word_times(whisper: Whisper) -> None:
    spoken = data.say(Espeak(), "Turn off the lamp in the living room, please.", data.Manner(data.DEMO_VOICE))
    assert spoken is not None
    _, words = whisper.hear(data.padded(spoken.waveform(), 0.5, 0.5))
    assert [word for word, _ in words] == ["Turn", "off", "the", "lamp", "in", "the", "living", "room", "please"]
    ends = [start for _, start in spoken.words()][1:]  # a word ends where the next begins, but for the comma's pause
    for (word, end), following in zip(words, ends, strict=False):
        if word != "room":
            assert end == pytest.approx(following + 0.5, abs=0.2), word


def test_hears_nothing_in_silence(whisper: Whisper) -> None:
    assert whisper.hear(np.zeros(5 * data.RATE, np.float32))[0] == ""
    noise = 0.02 * np.random.default_rng(3).standard_normal(8 * data.RATE).astype(np.float32)
    assert whisper.hear(noise)[0] == ""
