"""Prompts in, text out: every kind of prompt, with and without a chat template."""

import asyncio

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from powercut import text as edge
from powercut.errors import SettingError
from powercut.text import TokenizerText, check_prompt, special_tokens, trim_stop

WORDS = ["<s>", "</s>", "user", "system", "assistant", ":", "hello", "there", "be", "brief"]
IDS = {word: i for i, word in enumerate(WORDS)}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<s> {{ m.role }} : {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}<s> assistant :{% endif %}"
)


def make_text(template: object, single: str = "<s> $A") -> TokenizerText:
    backend = Tokenizer(models.WordLevel(IDS, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return TokenizerText(tokenizer)


@pytest.fixture
def chat_text() -> TokenizerText:
    return make_text(TEMPLATE)


@pytest.fixture
def raw_text() -> TokenizerText:
    return make_text(None)


def encode_prompt(*arguments, **settings) -> list[int]:
    return asyncio.run(edge.encode_prompt(*arguments, **settings))


def words(ids: list[int]) -> str:
    return " ".join(WORDS[i] for i in ids)


def test_raw_text_has_the_tokenizers_own_special_tokens(raw_text):
    assert not raw_text.has_chat_template
    assert words(encode_prompt(raw_text, "hello there")) == "<s> hello there"


def test_a_string_becomes_a_user_message_where_there_is_a_template(chat_text):
    assert words(encode_prompt(chat_text, "hello")) == "<s> user : hello </s> <s> assistant :"
    assert encode_prompt(chat_text, "hello", chat=True) == encode_prompt(chat_text, "hello")
    assert words(encode_prompt(chat_text, "hello", chat=False)) == "<s> hello"


def test_a_system_message_goes_in_front(chat_text):
    conversation = "<s> system : be brief </s> <s> user : hello </s> <s> assistant :"
    assert words(encode_prompt(chat_text, "hello", system="be brief")) == conversation
    assert words(encode_prompt(chat_text, [{"role": "user", "content": "hello"}], system="be brief")) == conversation


def test_decode_leaves_special_tokens_out(chat_text):
    tokens = np.array([IDS["hello"], IDS["there"], IDS["</s>"]])
    assert asyncio.run(chat_text.decode(tokens)) == chat_text.decode_now(tokens) == "hello there"


@pytest.mark.parametrize("ids", [[5, 6], (5, 6), np.array([5, 6]), [np.int32(5), np.int64(6)]])
def test_token_ids_pass_unchanged_with_or_without_a_tokenizer(ids, chat_text):
    for text in (None, chat_text):
        for chat in (None, True, False):
            encoded = encode_prompt(text, ids, chat=chat)
            assert encoded == [5, 6]
            assert all(type(token) is int for token in encoded)


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("", "prompt is empty"),
        (" \n\t", "prompt is empty"),
        ([], "prompt is empty"),
        (np.zeros(0, dtype=int), "prompt is empty"),
        ([1, -1], "got -1"),
        ([1, True], "got True"),
        ([1, 2.0], "got 2.0"),
        (np.array([[1, 2]]), r"got \[1, 2\]"),
        (["hello"], "got 'hello'"),
        (b"hello", "not bytes"),
        (7, "not int"),
        (None, "not NoneType"),
        ([{"role": "user"}], "role and a content"),
        ([{"content": "hello"}], "role and a content"),
        ([{"role": "user", "content": 3}], "role and a content"),
        ([{"role": "user", "content": "hello"}, "there"], "role and a content"),
        ([{"role": "system", "content": ""}, {"role": "user", "content": " "}], "no message has any text"),
        ([{"role": "user", "content": [{"type": "text", "text": ""}]}], "no message has any text"),
        ([{"role": "us\ud800er", "content": "hello"}], "character 3 of the prompt is half a character"),
        ([{"role": "user", "content": "hello", "name": "\ud800"}], "half a character"),
        ([10**5000], "got one of 5001 digits"),
    ],
)
def test_a_prompt_that_cannot_be_one_is_refused(prompt, part, chat_text):
    with pytest.raises(SettingError, match=part):
        check_prompt(prompt)
    with pytest.raises(SettingError, match=part):
        encode_prompt(chat_text, prompt)


def test_parts_of_text_are_joined(chat_text):
    parts = [{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}]
    assert encode_prompt(chat_text, [{"role": "user", "content": parts}]) == encode_prompt(chat_text, "hello there")
    for part in ({"type": "image_url", "image_url": "x"}, {"type": "image_url", "text": "what it shows"}, ["hello"]):
        with pytest.raises(SettingError, match="parts of text alone"):
            check_prompt([{"role": "user", "content": [part]}])


def test_something_wrong_is_shown_in_part():
    with pytest.raises(SettingError) as caught:
        check_prompt([{"role": "user", "content": list(range(10**5))}])
    assert len(str(caught.value)) < 300
    with pytest.raises(SettingError) as caught:
        check_prompt([{"role": "user", "content": {"x": "y" * 10**6}}])
    assert len(str(caught.value)) < 300
    with pytest.raises(SettingError, match=r"at least 0 and below 2\^63"):
        check_prompt([1, 2**63])


def test_a_system_message_is_text(chat_text):
    with pytest.raises(SettingError, match="system must be a text"):
        encode_prompt(chat_text, "hello", system=7)
    with pytest.raises(SettingError, match="character 3 of the system message is half a character"):
        encode_prompt(chat_text, "hello", system="be\udcff")


def test_what_the_settings_do_not_allow_is_refused(chat_text, raw_text):
    messages = [{"role": "user", "content": "hello"}]
    with pytest.raises(SettingError, match="no tokenizer: give the prompt as token ids"):
        encode_prompt(None, "hello")
    with pytest.raises(SettingError, match="no tokenizer"):
        encode_prompt(None, messages)
    with pytest.raises(SettingError, match=r"--raw \(chat=False\) or a model with a template"):
        encode_prompt(raw_text, "hello", chat=True)
    with pytest.raises(SettingError, match="has none"):
        encode_prompt(raw_text, messages)
    with pytest.raises(SettingError, match="messages need the chat template"):
        encode_prompt(chat_text, messages, chat=False)
    with pytest.raises(SettingError, match="raw prompt has no system"):
        encode_prompt(chat_text, "hello", chat=False, system="be brief")
    with pytest.raises(SettingError, match="raw prompt has no system"):
        encode_prompt(raw_text, "hello", system="be brief")
    with pytest.raises(SettingError, match="in front of token ids"):
        encode_prompt(chat_text, [1, 2], system="be brief")
    with pytest.raises(SettingError, match="already have a system message"):
        encode_prompt(chat_text, [{"role": "system", "content": "x"}, *messages], system="be brief")


def test_a_template_that_refuses_says_why_in_one_line(chat_text):
    with pytest.raises(SettingError, match="refuses these messages: no tools here") as caught:
        encode_prompt(chat_text, [{"role": "tool", "content": "x"}])
    assert "\n" not in str(caught.value)


def test_a_prompt_without_tokens_is_refused():
    class Mute:
        def encode(self, text: str, **_: bool) -> list[int]:
            return []

    with pytest.raises(SettingError, match="no token"):
        encode_prompt(TokenizerText(Mute()), "\u200b hello")


@pytest.mark.parametrize(
    ("single", "text", "found"),
    [
        ("<s> $A", "<s> hello", "<s> hello"),
        ("<s> $A", "<s> <s> hello", "<s> <s> hello"),
        ("<s> $A </s>", "hello", "<s> hello"),
        ("<s> $A </s>", "<s> hello </s>", "<s> hello </s>"),
        ("$A </s>", "hello", "hello"),
        ("$A", "<s> hello", "<s> hello"),
        ("</s> <s> $A", "hello", "</s> <s> hello"),
    ],
)
def test_a_raw_prompt_starts_once_and_does_not_end(single, text, found):
    assert words(encode_prompt(make_text(None, single), text)) == found


def test_a_rendered_conversation_is_not_rendered_again(chat_text, raw_text):
    rendered = "<s> user : hello </s> <s> assistant :"
    with pytest.warns(UserWarning, match="in the chat template's form already"):
        assert words(encode_prompt(chat_text, rendered)) == rendered
    assert words(encode_prompt(chat_text, rendered, chat=False)) == rendered
    assert words(encode_prompt(chat_text, rendered, chat=True)).count("user") == 2
    assert words(encode_prompt(raw_text, rendered)) == rendered
    assert "user" in words(encode_prompt(chat_text, "hello <s>"))


def test_templates_without_special_tokens_are_known_by_their_opening():
    text = make_text("{% for m in messages %}user : {{ m.content }} assistant : {% endfor %}")
    with pytest.warns(UserWarning, match="already"):
        assert words(encode_prompt(text, "user : hello assistant :")) == "<s> user : hello assistant :"
    with pytest.warns(UserWarning, match="ends a turn with no special token"):
        assert words(encode_prompt(text, "hello there")) == "user : hello there assistant :"
    assert not text.turn_end


def test_a_last_message_of_the_assistant_is_continued(chat_text):
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello there"}]
    assert words(encode_prompt(chat_text, messages)) == "<s> user : hello </s> <s> assistant : hello there"
    messages[1]["content"] = " "  # a turn that has not begun
    assert words(encode_prompt(chat_text, messages)) == "<s> user : hello </s> <s> assistant :"


THINKING = (
    "{% if think is defined %}{% generation %}{{ think }}{% endgeneration %} {% endif %}{% set own = 1 %}" + TEMPLATE
)


def test_variables_of_the_template():
    text = make_text(THINKING)
    asked = [{"role": "user", "content": "hello"}]
    assert words(encode_prompt(text, "hello")) == "<s> user : hello </s> <s> assistant :"
    for prompt in ("hello", asked):
        found = encode_prompt(text, prompt, template_args={"think": "brief"})
        assert words(found) == "brief <s> user : hello </s> <s> assistant :"
    assert encode_prompt(text, "hello", template_args={}) == encode_prompt(text, "hello")


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ({"thnik": 1}, r"no variable thnik \(did you mean think\?\); it has think$"),
        ({"own": 1}, "no variable own"),
        ({"messages": []}, "'messages' is no variable of yours to set"),
        ({"tokenize": False}, "'tokenize' is no variable of yours"),
        ({"a b": 1}, "'a b' is no variable of yours"),
        ({"think": {1, 2}}, "think is nothing that JSON has"),
        ({"think": float("nan")}, "think is nothing that JSON has"),
        ({"think": ["\ud83d"]}, "of template_args: think is half a character"),
        ({1: 2}, "give a dictionary"),
        ("think=1", "give a dictionary"),
    ],
)
def test_variables_that_cannot_be_set(args, part):
    with pytest.raises(SettingError, match=part) as caught:
        encode_prompt(make_text(THINKING), "hello", template_args=args)
    assert "\n" not in str(caught.value)


def test_variables_where_there_is_no_template(chat_text, raw_text):
    args = {"think": 1}
    with pytest.raises(SettingError, match=r"goes through no chat template.*--chat \(chat=True\)"):
        encode_prompt(chat_text, "hello", chat=False, template_args=args)
    with pytest.raises(SettingError, match="goes through no chat template"):
        encode_prompt(raw_text, "hello", template_args=args)
    with pytest.raises(SettingError, match="token ids do not go through"):
        encode_prompt(chat_text, [1], template_args=args)
    with pytest.raises(SettingError, match="goes through no chat template"), pytest.warns(UserWarning, match="already"):
        encode_prompt(make_text(THINKING), "<s> user : hello </s>", template_args=args)


TURN = "<s> {{ m.role }} : {{ m.content }} </s> "
OPEN = "{% if add_generation_prompt %}<s> assistant :{% endif %}"


@pytest.mark.parametrize(
    ("template", "left_out"),
    [
        (TEMPLATE, []),
        ("{% for m in messages %}{% if m.role == 'user' %}" + TURN + "{% endif %}{% endfor %}" + OPEN, ["system"]),
        ("{% set m = messages[-1] %}" + TURN + OPEN, ["system"]),
        ("<s> user : hello </s>" + OPEN, ["system", "user"]),
        (
            "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}<s> </s>{% endfor %}",
            ["system", "user"],
        ),
    ],
)
def test_a_template_that_leaves_messages_out_is_noted_once(template, left_out, recwarn):
    text = make_text(template)
    for _ in range(2):
        encode_prompt(text, "hello", system="be brief")
    notes = [str(note.message) for note in recwarn.list if "leaves out" in str(note.message)]
    assert notes == [f"the chat template leaves out what messages of the role {role!r} say" for role in left_out]


def test_a_template_that_ends_no_turn_is_noted_once(recwarn):
    text = make_text("{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}assistant :")
    for _ in range(2):
        assert words(encode_prompt(text, "hello")) == "user : hello assistant :"
    assert ["ends a turn with no special token" in str(note.message) for note in recwarn.list] == [True]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}",
        "{% frobnicate %}x",
        "{{ raise_exception('no\nway') }}",
        "{{ raise_exception('x' * 100000) }}",
        "{{ nothing() }}",
        "{{ messages[0].foo.bar }}",
        "{{ 1 / 0 }}",
        "{% for i in range(10 ** 11) %}x{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{{ ''.__class__.__mro__ }}",
        "\ud800" + TEMPLATE,
        {"rag": TEMPLATE},
        7,
    ],
)
@pytest.mark.parametrize("args", [None, {"think": 1}])
def test_a_template_that_cannot_be_used_is_one_line(template, args):
    text = make_text(template)
    for prompt in ("hello", [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]):
        with pytest.raises(SettingError) as caught:
            encode_prompt(text, prompt, template_args=args)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_what_ends_a_turn_in_the_template(chat_text, raw_text):
    assert chat_text.turn_end == {IDS["</s>"]}
    assert not raw_text.turn_end
    assert not make_text("{{ raise_exception('no') }}").turn_end


def test_special_tokens_are_those_that_show_as_no_text(chat_text):
    assert special_tokens(chat_text) == {"<s>": 0, "</s>": 1}
    assert special_tokens(None) == {}


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("a\n\nb", ["\n\n"], "a"),
        ("abcabc", ["c", "bc"], "a"),
        ("abc", ["x"], "abc"),
        ("abc", [], "abc"),
        ("", ["x"], ""),
    ],
)
def test_the_first_stop_cuts_the_text(text, stops, shown):
    assert trim_stop(text, stops) == shown
