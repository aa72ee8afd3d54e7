"""Rows that take turns in slots are written as each would be alone, with fewer tokens read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.models import decode, slots
from mnemos.models.slots import Piece, Slots
from tests.models.families import FAMILIES, next_log_probs, sharp

loaded = cache(sharp)
SLOTTED = [family for family in FAMILIES if family not in ("bloom", "gptj", "mamba")]
HEADER = [7, 11, 13, 9, 40, 41, 5, 77, 78, 30, 31, 32, 8, 9, 10, 21, 22, 23]


def alone(model: Any, row: Sequence[int], new: int) -> list[int]:
    """The reference: every token from a pass over the whole row, without any cache."""
    ids = list(row)
    for _ in range(new):
        ids.append(int(next_log_probs(model, ids)[-1].argmax()))
    return ids[len(row) :]


@pytest.mark.parametrize("family", FAMILIES)
def test_models_over_slots_are_found_by_trying(family: str) -> None:
    model = loaded(family).model
    before = model.config._attn_implementation
    with torch.inference_mode():
        found = slots.fit(model)
    assert (found is not None) == (family in SLOTTED)
    assert model.config._attn_implementation == before
    if found is not None:
        config = model.config
        heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        assert found.token_bytes == config.num_hidden_layers * 2 * heads * 8 * 4
        assert found.longest == 128


@pytest.mark.parametrize(("shares", "fits"), [((0.05,), True), ((0.2, 0.0, 0.02), True), ((0.2, 0.3, 0.0), False)])
def test_in_16_bits_one_text_that_rounds_badly_does_not_decide(
    monkeypatch: pytest.MonkeyPatch, shares: tuple[float, ...], fits: bool
) -> None:
    model, tried = sharp("llama").model, iter(shares)
    monkeypatch.setattr(slots, "_error", lambda model, shift: (next(tried), False, Slots(3, 9)))
    assert (slots.fit(model) is not None) == fits
    assert list(tried) == []
    exact = sharp("llama").model
    monkeypatch.setattr(slots, "_error", lambda model, shift: (0.05, True, Slots(3, 9)))
    assert slots.fit(exact) is None  # in float32 rounding is no excuse


def test_angles_that_hang_on_the_longest_row_bound_a_row() -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 32}
    model = sharp("llama", rope_parameters=rope).model
    with torch.inference_mode():
        found = slots.fit(model)
    assert found is not None
    assert found.longest == 32


@pytest.mark.parametrize("family", SLOTTED)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_in_few_slots_are_written_as_alone(
    family: str, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(family).model
    size = model.get_input_embeddings().weight.shape[0]
    tail = st.lists(st.integers(0, size - 1), min_size=1, max_size=24)
    rows = data.draw(st.lists(st.tuples(st.booleans(), tail), min_size=1, max_size=6), label="rows")
    prompts = [[*(HEADER if headed else []), *ids] for headed, ids in rows]
    prompts += data.draw(st.lists(st.sampled_from(prompts), max_size=3), label="again")
    new, budget = (
        data.draw(st.integers(1, 6), label="new"),
        data.draw(st.sampled_from([2, 7, 30, 4096]), label="budget"),
    )
    # Room for two or three rows at a time, so that slots are taken again and again.
    monkeypatch.setattr(decode, "CACHE_BYTES", data.draw(st.sampled_from([1, 40_000]), label="bytes"))
    monkeypatch.setattr(decode, "JOB", 10_000)
    with torch.inference_mode():
        found = decode.write(model, prompts, frozenset(), Decoding(new), budget)
    for row, (ids, end) in zip(prompts, found, strict=True):
        assert end is None
        _same_but_for_ties(model, row, ids, new)


def _same_but_for_ties(model: Any, row: Sequence[int], ids: Sequence[int], new: int) -> None:
    expected = alone(model, row, new)
    if list(ids) != expected:
        at = next(k for k, (a, b) in enumerate(zip(ids, expected, strict=True)) if a != b)
        best, second = next_log_probs(model, [*row, *expected[:at]])[-1].topk(2).values
        assert float(best - second) < 1e-4


class Passes:
    """What was read in each pass, by watching `Slots.forward`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[list[int]] = []
        forward = Slots.forward

        def watched(slots: Slots, model: Any, pieces: Sequence[Piece]) -> torch.Tensor:
            self.read.append([len(piece.ids) for piece in pieces])
            return forward(slots, model, pieces)

        monkeypatch.setattr(Slots, "forward", watched)


def _write(rows: list[list[int]], new: int, budget: int = 4096) -> list[decode.Decoded]:
    model = loaded("llama").model
    with torch.inference_mode():
        slots.fit(model)
        return decode.write(model, rows, frozenset(), Decoding(new), budget)


def test_what_prompts_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        slots.fit(loaded("llama").model)
    passes = Passes(monkeypatch)
    rows = [[*HEADER, 100 + k, 60 + k] for k in range(4)]
    _write([*rows, rows[0], rows[0]], 1)
    # One reads the header for all; each of the others its own two tokens, and the same prompt again its last token.
    assert passes.read == [[20], [1, 1, 2, 2, 2]]
    passes.read.clear()
    _write([[50 + k, *HEADER] for k in range(4)], 1)
    assert passes.read == [[19] * 4]


def test_a_row_that_ended_makes_room_and_a_pass_keeps_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        slots.fit(loaded("llama").model)
    passes = Passes(monkeypatch)
    # Slots for two rows of 10 and 20 tokens; 384 bytes a token.
    monkeypatch.setattr(decode, "CACHE_BYTES", 2 * 30 * 384)
    _write([[k, *range(40, 49)] for k in range(5)], 20, budget=12)
    assert all(sum(sizes) <= 12 for sizes in passes.read)
    assert all(len(sizes) <= 2 for sizes in passes.read)
    # Prompts of 10 tokens do not fit side by side: the second one's are read in parts, beside the first one's answer.
    assert passes.read[:2] == [[10, 2], [1, 8]]
    # 5 rows of 20 tokens, two at a time: 40 passes with two rows, 20 with the last alone, little more to begin.
    assert len(passes.read) <= 64


def test_a_stop_text_ends_a_row_where_it_is_complete() -> None:
    for family in ("llama", "gptj", "mamba"):
        model = loaded(family)
        prompts = [Prompt((Turn("prompt", text),)) for text in ("The", "Ada Lane was born", "{")]
        free = model.generate(prompts, Decoding(24))
        text = next(one.text for one in free if len(one.text) > 9)
        stop = (text[5:8], "never written")
        cut = model.generate(prompts, Decoding(24, stop=stop))
        assert any(one.text != other.text for one, other in zip(cut, free, strict=True))
        for one, other in zip(cut, free, strict=True):
            assert one.text == other.text.split(stop[0])[0]
            assert one.ids == other.ids[: len(one.ids)]
            if stop[0] in other.text:
                assert one.finished
                # No token more than the text needed.
                assert stop[0] not in model.renderer.decode(one.ids[:-1])
            else:
                assert one == other


def test_nothing_of_a_row_that_overflowed_reaches_the_next_one() -> None:
    model = loaded("llama").model
    room = Slots(2, 12)
    rows = [[3, 5, 8, 13], [4, 6, 9]]
    with torch.inference_mode(), slots.switched(model):
        room.forward(model, [Piece(0, 0, list(range(12))), Piece(1, 0, list(range(20, 28)))])
        for slot in (0, 1):
            for held in room._layers[1]:
                held[slot] = torch.inf
            room.copy(slot, slot, 0)
        room.forward(model, [Piece(slot, 0, row[:-1]) for slot, row in enumerate(rows)])
        logits = room.forward(model, [Piece(slot, len(row) - 1, row[-1:]) for slot, row in enumerate(rows)])
    for row, found in zip(rows, logits, strict=True):
        np.testing.assert_allclose(found.log_softmax(-1), next_log_probs(model, row)[-1], atol=1e-3)


def test_the_attention_comes_back_after_an_error() -> None:
    model = loaded("llama").model
    before = model.config._attn_implementation
    seen = []

    def stopped() -> None:
        with slots.switched(model):
            seen.append(model.config._attn_implementation)
            raise KeyError

    with pytest.raises(KeyError):
        stopped()
    assert seen == [slots.ATTENTION]
    assert model.config._attn_implementation == before
