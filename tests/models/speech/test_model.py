"""A language model that listens: text as the language model alone, sounds among its embeddings, files and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import AudioPart, Decoding, Example, Prompt, TextPart, Turn
from mnemos.models.head import bare
from mnemos.models.load import Checkpoint, load_model
from mnemos.models.renderer import renderer_of
from mnemos.models.speech.bridges import STANDARD
from mnemos.models.speech.encoders import Encoder
from mnemos.models.speech.files import make
from mnemos.models.speech.spelling import window_of
from mnemos.models.speech.standard import LEAST_SCALE, made_sounds
from mnemos.sources.bad_row import RowError
from mnemos.sources.sound_marks import FIRST_SOUND
from mnemos.weights.checkpoint import named
from mnemos.weights.expression import parse
from mnemos.weights.write import combine
from tests.models.speech.making import clip, tiny_listener
from tests.tiny import TEXT, save_tiny
from tests.tiny_speech import tiny_whisper


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def heard(file: Path, question: str = "Who speaks?", **stretch: float) -> Prompt:
    return Prompt((Turn("user", (AudioPart(str(file), **stretch), TextPart(f"\n{question}"))),))


def asked(question: str = "Who speaks?") -> Prompt:
    return Prompt((Turn("user", question),))


def is_sound(ids: Any) -> Any:
    return np.asarray(ids, np.int64) >= FIRST_SOUND


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_text_alone_is_bit_for_bit_the_language_model(family: str, tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m", family=family)
    model: Any = Checkpoint(str(place)).load()
    alone: Any = Checkpoint(str(place / "language")).load()
    prompts = [asked(), asked("What is two plus three?")]
    decoding = Decoding(max_new_tokens=8)
    assert model.generate(prompts, decoding) == alone.generate(prompts, decoding)
    assert model.nats(TEXT) == alone.nats(TEXT)
    options = [["yes", "no way"], ["five", "two"]]
    assert model.choose(prompts, options) == alone.choose(prompts, options)
    assert model.divergence(alone, prompts, [[5, 6], [7]]) == [(0.0, 2), (0.0, 1)]


def test_a_sound_stands_among_the_ids_that_the_template_writes(tmp_path: Path) -> None:
    place, file = tiny_listener(tmp_path / "m"), clip(tmp_path, 0.5)
    renderer = renderer_of(Checkpoint(str(place)))
    ids = renderer.prompt_ids(heard(file))
    sound = is_sound(ids)
    # 0.5 s are 25 frames of 20 ms, and the bridge stacks four of them.
    assert sound.sum() == 7
    assert np.ptp(np.flatnonzero(sound)) == 6
    first = int(np.flatnonzero(sound)[0])
    before, behind = ids[:first], ids[first + 7 :]
    assert renderer.decode(before, special=True) + renderer.decode(behind, special=True) == renderer.decode(
        renderer.prompt_ids(asked("\nWho speaks?")), special=True
    )
    # Nothing of the sound is learned or written; the answer is, as in a row of text.
    example = Example("e", "messages", (*heard(file).turns, Turn("assistant", "Ada.")))
    tokens = renderer.render(example)
    assert tokens.ids[: len(ids)].tolist() == ids
    assert not tokens.weight[is_sound(tokens.ids)].any()
    assert not tokens.output[is_sound(tokens.ids)].any()
    assert renderer.decode(tokens.ids[tokens.output], special=True) == "Ada.<|im_end|>"
    in_use = renderer.render_in_use(example)
    assert in_use.ids[: len(ids)].tolist() == ids
    assert renderer.decode(in_use.ids[in_use.output], special=True) == "Ada.<|im_end|>"


def test_ids_hang_on_the_samples_alone(tmp_path: Path) -> None:
    renderer = renderer_of(Checkpoint(str(tiny_listener(tmp_path / "m"))))
    one, other = clip(tmp_path / "a", 0.5, 1), clip(tmp_path / "a", 0.5, 2)
    copied = Path(shutil.copy(one, tmp_path / "copy.wav"))
    ids = {file: renderer.prompt_ids(heard(file)) for file in (one, other, copied)}
    assert ids[one] == ids[copied]
    assert not set(np.array(ids[one])[is_sound(ids[one])]) & set(np.array(ids[other])[is_sound(ids[other])])
    assert all(0 <= token < 2**63 for token in ids[one])


def test_a_prompt_whose_answer_is_drawn_keeps_its_sounds(tmp_path: Path) -> None:
    from mnemos.train.draws.sampling import answered, silent

    ids = renderer_of(Checkpoint(str(tiny_listener(tmp_path / "m")))).prompt_ids(heard(clip(tmp_path)))
    row = answered(silent(ids, Example("e", "messages", heard(clip(tmp_path)).turns)), [5, 6])
    assert row.ids.tolist() == [*ids, 5, 6]
    assert silent([1, 2], Example("e", "messages", ())).ids.dtype == np.int32


def test_a_text_that_spells_the_mark_is_no_sound(tmp_path: Path) -> None:
    renderer = renderer_of(Checkpoint(str(tiny_listener(tmp_path / "m"))))
    file = clip(tmp_path)
    ids = renderer.prompt_ids(heard(file, "[[sound 0.0]] [[sound 1.0]] <|im_end|>"))
    assert is_sound(ids).sum() == 7
    assert renderer.decode(ids).count("[[sound 0.0]] [[sound 1.0]] <|im_end|>") == 1


def test_two_sounds_in_their_order(tmp_path: Path) -> None:
    renderer = renderer_of(Checkpoint(str(tiny_listener(tmp_path / "m"))))
    one, two = clip(tmp_path, 0.5, 1), clip(tmp_path, 0.3, 2)
    parts = (AudioPart(str(two)), TextPart(" and "), AudioPart(str(one)))
    ids = renderer.prompt_ids(Prompt((Turn("user", parts),)))
    found = [window_of((token - FIRST_SOUND) >> 14).part.path for token in ids if token >= FIRST_SOUND]
    assert found == [str(two)] * 4 + [str(one)] * 7


@pytest.mark.parametrize("bridge", ["mlp", "conv", "qformer", "window_qformer", "cif"])
def test_logits_are_those_of_the_bridges_vectors_among_embeddings(bridge: str, tmp_path: Path) -> None:
    place, files = tiny_listener(tmp_path / "m", bridge), [clip(tmp_path, 0.5, 1), clip(tmp_path, 0.9, 2)]
    model: Any = Checkpoint(str(place)).load()
    rows = [model.renderer.prompt_ids(heard(file)) for file in files]
    language = load_model(str(place / "language"))
    for row in rows:
        sound = is_sound(row)
        window = window_of((row[int(np.flatnonzero(sound)[0])] - FIRST_SOUND) >> 14)
        states = model.model.features.states([window])[0].float()
        with torch.no_grad():
            vectors = model.model.bridge(states[None], torch.tensor([states.shape[1]]))[0]
            embedded = language.get_input_embeddings()(
                torch.tensor([0 if s else i for i, s in zip(row, sound, strict=True)])
            )
            embedded[torch.from_numpy(sound)] = vectors[: sound.sum()]
            wanted = language(inputs_embeds=embedded[None]).logits
            found = model.model(input_ids=torch.tensor([row])).logits
        assert torch.allclose(found, wanted, atol=1e-5)


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The plainest way to write: the whole row again for every token."""
    out: list[int] = []
    for _ in range(count):
        with torch.no_grad():
            out.append(int(model(input_ids=torch.tensor([[*ids, *out]])).logits[0, -1].argmax()))
    return out


def test_answers_do_not_hang_on_what_shares_the_batch(tmp_path: Path) -> None:
    model: Any = Checkpoint(str(tiny_listener(tmp_path / "m"))).load()
    prompts = [heard(clip(tmp_path, 0.5, 1)), asked(), heard(clip(tmp_path, 1.1, 2)), heard(clip(tmp_path, 0.5, 1))]
    found = model.generate(prompts, Decoding(max_new_tokens=6))
    for prompt, one in zip(prompts, found, strict=True):
        written = greedy(model.model, model.renderer.prompt_ids(prompt), 6)
        assert list(one.ids) == written[: len(one.ids)]
    # A small budget cuts prompts into pieces, within a sound too.
    model.batch_tokens = 5
    assert model.generate(prompts, Decoding(max_new_tokens=6)) == found
    options = [["five", "two and"]] * 4
    packed = model.choose(prompts, options)
    for prompt, scores in zip(prompts, packed, strict=True):
        assert model.choose([prompt], [["five"]])[0][0].log_prob == pytest.approx(scores[0].log_prob, abs=1e-4)


@pytest.mark.parametrize("way", ["padded", "alone"])
def test_every_way_of_decoding_hears(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemos.models import decode, slots

    model: Any = Checkpoint(str(tiny_listener(tmp_path / "m"))).load()
    prompts = [heard(clip(tmp_path, 0.5, 1)), heard(clip(tmp_path, 1.1, 2))]
    wanted = model.generate(prompts, Decoding(max_new_tokens=6))
    monkeypatch.setattr(slots, "fit", lambda model: None)
    monkeypatch.setattr(decode, "_can_step", lambda model: way == "padded")
    assert model.generate(prompts, Decoding(max_new_tokens=6)) == wanted


def test_a_sound_longer_than_the_window_is_heard_in_pieces(tmp_path: Path) -> None:
    # The tiny Whisper hears two seconds.
    model: Any = Checkpoint(str(tiny_listener(tmp_path / "m"))).load()
    long = clip(tmp_path, 4.5)
    ids = model.renderer.prompt_ids(heard(long))
    codes = [(token - FIRST_SOUND) >> 14 for token in ids if token >= FIRST_SOUND]
    windows = [window_of(code) for code in dict.fromkeys(codes)]
    assert [(one.start, one.length) for one in windows] == [(0, 32000), (32000, 32000), (64000, 8000)]
    assert [codes.count(one.code) for one in windows] == [25, 25, 7]
    # A stretch of the file that is the last piece is the same sound.
    stretch = model.renderer.prompt_ids(heard(long, start=4.0, end=4.5))
    assert {(token - FIRST_SOUND) >> 14 for token in stretch if token >= FIRST_SOUND} == {windows[-1].code}
    assert model.generate([heard(long)], Decoding(max_new_tokens=2))[0].ids


def test_whispers_own_pass_where_a_clip_fills_the_window(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, WhisperModel

    from mnemos.models.speech.encoders import Encoder
    from tests.tiny_speech import sound

    place = tiny_whisper(tmp_path / "ears")
    encoder, one = Encoder(str(place)), sound(2.0)
    made = AutoFeatureExtractor.from_pretrained(place)(one.samples, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        hidden = WhisperModel.from_pretrained(place).eval().encoder(made["input_features"], output_hidden_states=True)
    assert torch.allclose(encoder.states(one.samples, (1,))[0], hidden.last_hidden_state[0], atol=1e-5)
    assert torch.allclose(encoder.states(one.samples, (0,))[0], hidden.hidden_states[1][0], atol=1e-5)


@pytest.mark.parametrize("encoder", ["wav2vec2", "hubert", "wavlm", "data2vec-audio"])
def test_convolutional_encoders(encoder: str, tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m", "qformer", encoder)
    model: Any = Checkpoint(str(place)).load()
    assert model.generate([heard(clip(tmp_path, 0.4))], Decoding(max_new_tokens=2))[0].ids
    encoded = model.model.features.encoder
    for samples in (encoded.least, 1000, 6401):
        states = encoded.states(np.random.default_rng(0).standard_normal(samples).astype(np.float32), (0, 1))
        assert states.shape == (2, encoded.frames(samples), 16)
    with pytest.raises(RowError, match="makes a frame of"):
        model.renderer.prompt_ids(heard(clip(tmp_path, 0.001)))


def test_a_sound_is_encoded_once_and_kept_by_content(cache: Path, tmp_path: Path) -> None:
    place, file = tiny_listener(tmp_path / "m"), clip(tmp_path)
    decoding = Decoding(max_new_tokens=3)
    model: Any = Checkpoint(str(place)).load()
    first = model.generate([heard(file)], decoding)
    assert model.model.features.encoded == 1
    again: Any = Checkpoint(str(place)).load()
    assert again.generate([heard(Path(shutil.copy(file, tmp_path / "b.wav")))], decoding) == first
    assert again.model.features.encoded == 0
    assert "network" not in again.model.features.encoder.__dict__  # not even loaded
    [kept] = list((cache / "features").rglob("*.npy"))
    assert np.load(kept).dtype == np.float16
    kept.write_bytes(kept.read_bytes()[:50])  # a file that is not whole is made anew
    third: Any = Checkpoint(str(place)).load()
    assert third.generate([heard(file)], decoding) == first
    assert third.model.features.encoded == 1


def test_a_file_that_changes_behind_its_row_is_refused(tmp_path: Path) -> None:
    model: Any = Checkpoint(str(tiny_listener(tmp_path / "m"))).load()
    file = clip(tmp_path)
    ids = model.renderer.prompt_ids(heard(file))
    from mnemos.models.speech import spelling

    spelling._CLIPS.clear()
    shutil.copy(clip(tmp_path / "other", 0.5, 7), file)
    with pytest.raises(DataError, match="has changed since"):
        model.model(input_ids=torch.tensor([ids]))
    spelling._CLIPS.clear()


def test_the_fingerprint_follows_every_part_and_no_place(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = tiny_listener(tmp_path / "m")
    own = named(str(place))
    moved = Path(shutil.move(place, tmp_path / "elsewhere"))
    assert named(str(moved)) == own
    for name in ("model.safetensors", "language/model.safetensors", "encoder/model.safetensors"):
        before = (moved / name).read_bytes()
        state = load_file(moved / name)
        (moved / name).unlink()  # the weights are hard links
        save_file({key: one + 1 for key, one in state.items()}, moved / name, metadata={"format": "pt"})
        assert named(str(moved)) != own, name
        (moved / name).write_bytes(before)
    assert named(str(moved)) == own


def test_the_directory_can_be_read_by_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, WhisperForConditionalGeneration

    place = tiny_listener(tmp_path / "m")
    AutoModelForCausalLM.from_pretrained(place / "language")
    WhisperForConditionalGeneration.from_pretrained(place / "encoder")
    assert AutoTokenizer.from_pretrained(place / "language").chat_template
    card = (place / "README.md").read_text()
    assert "bridge of kind `mlp`" in card


def test_seeds_decide_a_fresh_bridge(tmp_path: Path) -> None:
    language, ears = save_tiny(tmp_path / "l"), tiny_whisper(tmp_path / "e")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(tmp_path / name, language=str(language), encoder=str(ears), bridge={"kind": "mlp"}, seed=seed)
    assert named(str(tmp_path / "a")) == named(str(tmp_path / "b")) != named(str(tmp_path / "c"))


def test_a_fresh_bridge_knows_what_states_are_like(tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m", "qformer")
    bridge = load_model(str(place)).bridge
    encoder = Encoder(str(place / "encoder"))
    layers = range(encoder.layers)
    states = np.concatenate([encoder.states(one, layers).numpy() for one in made_sounds(encoder.rate)], axis=1)
    assert np.allclose(bridge.centre[:, 0], states.mean(1), atol=1e-4)
    spread = states.std(1, ddof=1)
    assert np.allclose(bridge.scale[:, 0], np.maximum(spread, LEAST_SCALE * spread.mean()), atol=1e-4)


def test_a_directory_without_centre_and_scale_is_read_as_it_was(tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m")
    weights = load_file(place / "model.safetensors")
    save_file({name: one for name, one in weights.items() if name.split(".")[1] not in STANDARD},
              place / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    bridge = load_model(str(place)).bridge
    assert (bridge.centre, bridge.scale) == (None, None)


def test_a_language_model_without_a_chat_template(tmp_path: Path) -> None:
    language, ears = save_tiny(tmp_path / "l", chat=False), tiny_whisper(tmp_path / "e")
    with pytest.raises(ModelError, match="has no chat template"):
        make(tmp_path / "m", language=str(language), encoder=str(ears), bridge={"kind": "mlp"})


def test_an_encoder_that_is_none(tmp_path: Path) -> None:
    language = save_tiny(tmp_path / "l")
    with pytest.raises(ModelError, match="is no encoder that a bridge can stand on"):
        make(tmp_path / "m", language=str(language), encoder=str(language), bridge={"kind": "mlp"})


def test_a_bridge_between_other_widths(tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m")
    wider = save_tiny(tmp_path / "wider", hidden=64)
    shutil.rmtree(place / "language")
    shutil.copytree(wider, place / "language")
    with pytest.raises(ModelError, match="that the bridge was trained between"):
        load_model(str(place))


def test_a_part_that_is_gone(tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"encoder": str(tmp_path / "gone")}))
    with pytest.raises(ModelError, match="is not there any more"):
        load_model(str(place))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window_seconds": 0}, "must lie in"),
        ({"window_seconds": True}, "must lie in"),
        ({"bridge": None}, "or neither"),
        ({"bridge": None, "encoder": None}, "names neither"),
        ({"bridge": {"kind": "mlp", "stack": -1}}, "whole number"),
        ({"language_model": None}, "must name the language model"),
        ({"encoder": 3}, "must be a place"),
        ({"before": 3}, "must be a text"),
    ],
)
def test_a_configuration_that_cannot_be_meant(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | change))
    with pytest.raises((ModelError, UsageError), match=words):
        load_model(str(place))


def test_a_template_without_a_place_for_the_sound(tmp_path: Path) -> None:
    place = tiny_listener(tmp_path / "m")
    template = (place / "chat_template.jinja").read_text()
    (place / "chat_template.jinja").write_text(template.replace("m['content']", "m['content'].split('[[')[0]"))
    renderer = renderer_of(Checkpoint(str(place)))
    with pytest.raises(DataError, match="places for 0 of them"):
        renderer.prompt_ids(heard(clip(tmp_path)))


def test_a_model_of_text_refuses_a_sound(tmp_path: Path) -> None:
    model: Any = Checkpoint(str(save_tiny(tmp_path / "l"))).load()
    with pytest.raises(DataError, match="reads text alone"):
        model.generate([heard(clip(tmp_path))], Decoding())


def test_sounds_that_cannot_be_heard_say_why(tmp_path: Path) -> None:
    from mnemos.sources import audio
    from tests.tiny_speech import sound

    renderer = renderer_of(Checkpoint(str(tiny_listener(tmp_path / "m"))))
    (tmp_path / "broken.wav").write_bytes(b"RIFF no wave")
    audio.write(audio.Clip(np.zeros(8000, np.float32), 16_000), tmp_path / "silent.wav")
    for name, reason in (("none.wav", "no such file"), ("broken.wav", "damaged audio"), ("silent.wav", "silent")):
        with pytest.raises(RowError) as caught:
            renderer.prompt_ids(heard(tmp_path / name))
        assert caught.value.reason == reason
    assert sound(0.1).seconds == pytest.approx(0.1)


def test_the_vectors_can_be_watched(tmp_path: Path) -> None:
    model: Any = Checkpoint(str(tiny_listener(tmp_path / "m"))).load()
    ids = torch.tensor([model.renderer.prompt_ids(heard(clip(tmp_path)))])
    inner = bare(model.model)
    with inner.watched() as seen:
        inner(input_ids=ids)
    [(windows, vectors)] = seen
    assert windows[0].part.path.endswith(".wav")
    assert vectors.requires_grad
    assert inner._latest is None


def test_bridges_to_other_language_models_are_not_added(tmp_path: Path) -> None:
    one, same = tiny_listener(tmp_path / "one"), tmp_path / "same"
    parts = tmp_path / "one-parts"
    make(
        same, language=str(parts / "language"), encoder=str(parts / "ears"), bridge={"kind": "mlp", "stack": 4}, seed=1
    )
    other = tmp_path / "other"
    save_tiny(tmp_path / "language", seed=1)
    make(other, language=str(tmp_path / "language"), encoder=str(parts / "ears"), bridge={"kind": "mlp", "stack": 4})
    half = parse("0.5*a + 0.5*b")
    combine(half, {"a": one, "b": same}, tmp_path / "sum", parent="a")
    with pytest.raises(ModelError, match="language of b: is another model than that of a"):
        combine(half, {"a": one, "b": other}, tmp_path / "sum-2", parent="a")
