"""magpie: the pre-query by construction, what ends a question, filters, budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.magpie import magpie
from mnemos.models.load import Checkpoint
from mnemos.sources.generated import generated_in
from mnemos.sources.render import Renderer
from mnemos.synthesis.magpie import asked, pre_query
from tests.laws import Handle, base_plan, rows
from tests.methods.contexts import FakeContext, Say, Scripted, cut
from tests.tiny import tiny_tokenizer

VICUNA = (
    "{{ bos_token }}A chat.{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ ' USER: ' + m['content'] }}"
    "{% elif m['role'] == 'system' %}{{ ' ' + m['content'] }}"
    "{% else %}{{ ' ASSISTANT: ' + m['content'] + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a chat template, and no weights."""
    path = tmp_path_factory.mktemp("magpie") / "model"
    tiny_tokenizer().save_pretrained(path)
    return path


def plan_with(folder: Path, new: int = 18, **changed: Any) -> Plan:
    return base_plan(
        examples=rows("new", new), before=Handle(str(folder)), **{"past": (), "sequence": False, **changed}
    )


def is_pre_query(prompt: Prompt) -> bool:
    return prompt.turns[0].role == "rendered"


def script(questions: list[str | Generation], answer: Say = lambda prompt, number: "Gladly.") -> Say:
    def say(prompt: Prompt, number: int) -> Generation | str:
        return questions[number % len(questions)] if is_pre_query(prompt) else answer(prompt, number)

    return say


def written(plan: Plan, say: Say) -> tuple[list[Example], FakeContext]:
    (one,) = generated_in(plan)
    context = FakeContext({plan.before.path: Scripted(say)})
    return one.write(context), context


TOPICS = ["Where does the river run?", "Who made the stone bridge?", "How is bread baked?", "Name a chess opening!"]
TOPICS += ["Which sea lies north?", "Tell me about old mills."]


def test_the_pre_query_is_the_template_up_to_the_users_words() -> None:
    renderer = Renderer(tiny_tokenizer())
    plain, steered = pre_query(renderer), pre_query(renderer, "Be brief.")
    assert plain.before == "<|bos|><|im_start|>user\n"
    assert plain.after == "<|im_end|>\n<|im_start|>assistant\n"
    assert steered.before == "<|bos|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"


def test_a_question_behind_the_pre_query_is_the_rendered_chat() -> None:
    """What the model is given is exactly what stands before a user's words in training: one BOS,
    the same ids."""
    renderer = Renderer(tiny_tokenizer())
    given = renderer.prompt_ids(Prompt((Turn("rendered", pre_query(renderer).before),)))
    chat = renderer.render(Example("x", "messages", (Turn("user", "Why?"), Turn("assistant", "So."))))
    assert chat.ids[: len(given)].tolist() == given
    assert given.count(renderer.tokenizer.bos_token_id) == 1


def test_a_template_that_drops_the_users_words_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}{% if m['role'] != 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(ModelError, match="does not show the user's words"):
        pre_query(Renderer(tokenizer))


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer(chat=False).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no chat template"):
        written(magpie(plan_with(tmp_path)), script(TOPICS))


def test_where_a_question_ends() -> None:
    renderer = Renderer(tiny_tokenizer())
    after = pre_query(renderer).after
    ids = renderer.tokenizer("What is two?", add_special_tokens=False)["input_ids"]
    other = renderer.tokenizer("Five.", add_special_tokens=False)["input_ids"]
    begin = renderer.tokenizer.convert_tokens_to_ids("<|im_start|>")
    text = renderer.decode([*ids, *other])
    assert asked(renderer, Generation(renderer.decode(ids), tuple(ids), True), after) == "What is two?"
    assert asked(renderer, Generation(text, (*ids, begin, *other), True), after) == "What is two?"
    assert asked(renderer, Generation(text, (*ids, begin, *other), False), after) == "What is two?"
    assert asked(renderer, Generation(text, (*ids, *other), False), after) is None
    assert asked(renderer, Generation("", (), True), after) == ""


def test_a_template_whose_user_turn_ends_in_plain_text() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = VICUNA
    renderer = Renderer(tokenizer)
    template = pre_query(renderer)
    assert (template.before, template.after) == ("<|bos|>A chat. USER: ", " ASSISTANT:")
    text = Generation("What is two? ASSISTANT: A number.", (), True)
    assert asked(renderer, text, template.after) == "What is two?"


def test_questions_and_answers(folder: Path) -> None:
    plan = magpie(plan_with(folder), share_of_final=0.1, oversample=2, system="Be odd.", seed=4)
    kept, context = written(plan, script(TOPICS))
    assert len(kept) == 2, "two of twenty rows"
    calls = context.models[str(folder)].calls
    (prompts, decoding), (questions, greedy) = calls
    assert len(prompts) == 4
    assert {prompt.turns[0].text for prompt in prompts} == {
        "<|bos|><|im_start|>system\nBe odd.<|im_end|>\n<|im_start|>user\n"
    }
    assert (decoding.temperature, decoding.top_p, decoding.max_new_tokens, decoding.seed) == (1.0, 1.0, 256, 7)
    assert (greedy.temperature, greedy.max_new_tokens) == (0.0, 512)
    assert [prompt.turns for prompt in questions] == [row.turns[:1] for row in kept], "answered without the system turn"
    assert all(row.turns[0].text in TOPICS and row.turns[1].text == "Gladly." for row in kept)
    mixed = context.rows(plan.examples)
    assert [row.origin for row in mixed] == ["new"] * 18 + ["replay"] * 2


def test_each_filter_has_its_reason(folder: Path) -> None:
    text: list[str | Generation] = [*TOPICS, "", cut("Where does"), "Hi", "x" * 51, "Answer this:", "a b c d " * 3]
    text += ["Where does the river run??", "答えなさい，以下：" * 2]
    plan = magpie(plan_with(folder, 9), share_of_final=0.4, oversample=14 / 6, max_chars=50)
    kept, context = written(plan, script(text))
    assert sorted(row.turns[0].text for row in kept) == sorted(TOPICS)
    assert context.counts == {
        "kept": 6,
        "dropped: empty question": 1,
        "dropped: the question has no end": 1,
        "dropped: question too short": 1,
        "dropped: question too long": 1,
        "dropped: the question ends with a colon": 2,
        "dropped: the question repeats itself": 1,
        "dropped: a near-duplicate of an earlier question": 1,
    }
    assert context.notes["usable share of questions"] == pytest.approx(6 / 14)


def test_bad_answers_give_way_to_the_next_question(folder: Path) -> None:
    bad = {TOPICS[0]: cut("It"), TOPICS[1]: "no no no no no no no no"}

    def answer(prompt: Prompt, number: int) -> Generation | str:
        return bad.get(prompt.turns[0].text, "Gladly.")

    plan = magpie(plan_with(folder, 16), share_of_final=0.2, oversample=1.5)
    kept, context = written(plan, script(TOPICS, answer))
    assert len(kept) == 4
    assert not {row.turns[0].text for row in kept} & set(bad)
    assert context.counts["dropped: the answer has no end"] + context.counts["dropped: the answer repeats itself"] == 2


def test_too_few_usable_chats(folder: Path) -> None:
    with pytest.raises(DataError, match=r"0 usable made-up chats \(empty question: 6\).*\n  raise magpie.oversample"):
        written(magpie(plan_with(folder)), script([""]))


def test_less_than_a_row(folder: Path) -> None:
    with pytest.raises(DataError, match=r"share_of_final = 0\.01 beside 18 new rows: is less than one row\n.*0\.0526"):
        written(magpie(plan_with(folder), share_of_final=0.01), script(TOPICS))


def test_who_asks(folder: Path) -> None:
    plan = plan_with(folder)
    assert generated_in(magpie(plan))[0].author == plan.before  # type: ignore[attr-defined]
    assert generated_in(magpie(plan, author=str(folder)))[0].author == Checkpoint(str(folder))  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="is a server"):
        magpie(plan, author="http://localhost:8000/v1#m")
