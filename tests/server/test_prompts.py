"""What a prompt may be, in each of the endpoints."""

import pytest

import powercut as pc
from powercut.server.bodies import ChatMessage
from powercut.server.messages import plain_messages
from tests.cli.fake import LetterText
from tests.server.serving import SETTINGS, LettersEngine, serving, web


def plain(*messages):
    return plain_messages([ChatMessage.model_validate(message) for message in messages])


def test_content_parts_null_content_and_developer_role():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain(
        {"role": "developer", "content": "s"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
    ) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": ""},
    ]


def test_tool_turns_as_text():
    old = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}}
    assert plain(old)[0]["content"] == '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    assert plain(
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    )[1:] == [
        {"role": "assistant", "content": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'},
        {"role": "user", "content": "<tool_response>\n2\n</tool_response>"},
    ]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_images_are_a_400(ask, kind):
    answer = ask(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": kind, kind: {}}]}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"


def test_assistant_prefill_is_continued(ask):
    messages = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
    answer = ask(messages=messages, seed=5).json()
    [same] = pc.sample(LettersEngine(), pc.EntropyCut(**SETTINGS), [messages], seed=5)
    assert answer["choices"][0]["message"]["content"] == same.text
    assert answer["usage"]["prompt_tokens"] == len("abbcd")


def test_variables_of_the_chat_template(ask, served):
    assert ask(chat_template_kwargs={"enable_thinking": False}).status_code == 200
    assert served.engine.text.asked[-1] == {"enable_thinking": False}


@pytest.mark.parametrize("prompt", ["ab", ["ab", "cd"], [1, 2], [[1, 2], [3]]])
def test_completions_with_string_list_token_ids(ask, prompt):
    answer = ask("/v1/completions", prompt=prompt, seed=5, n=2).json()
    prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    same = pc.sample(LettersEngine(), pc.EntropyCut(**SETTINGS), prompts, n=2, seed=5, chat=False)
    assert answer["object"] == "text_completion"
    assert [choice["text"] for choice in answer["choices"]] == [each.text for each in same]
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(same)))
    assert answer["usage"]["completion_tokens"] == sum(len(each.tokens) for each in same)


@pytest.mark.parametrize("prompt", [[], "", " ", [[]], [""], ["a", [1]], [9], [-1], None, [True, 1]])
def test_prompts_that_are_none(ask, prompt):
    answer = ask("/v1/completions", prompt=prompt)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


def test_echo_and_logprobs(ask):
    for prompts in (["ab", "cd"], [[1, 2], [3, 4]]):
        echoed = ask("/v1/completions", prompt=prompts, echo=True, seed=5).json()["choices"]
        alone = ask("/v1/completions", prompt=prompts, seed=5).json()["choices"]
        texts = [before + choice["text"] for before, choice in zip(("ab", "cd"), alone, strict=True)]
        assert [choice["text"] for choice in echoed] == texts
    refused = ask("/v1/completions", prompt="ab", echo=True, logprobs=1, max_tokens=1)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "echo")
    logprobs = ask("/v1/completions", prompt="ab", logprobs=2, seed=5).json()["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"])
    assert logprobs["text_offset"] == list(range(len(logprobs["tokens"])))
    assert all(set(each) == {"a", "b"} for each in logprobs["top_logprobs"])
    assert ask("/v1/completions", prompt="ab", logprobs=False, echo=True).json()["choices"][0]["logprobs"] is None
    assert ask("/v1/completions", prompt="ab", logprobs=True).json()["error"]["param"] == "logprobs"
    assert ask("/v1/completions", prompt="ab", logprobs=0).json()["choices"][0]["logprobs"]["top_logprobs"] is None


@pytest.mark.parametrize(
    ("path", "fields"),
    [("chat/completions", {"messages": [{"role": "user", "content": "a"}]}), ("responses", {"input": "a"})],
)
def test_a_model_without_a_chat_template_says_where_to_ask(path, fields):
    engine = LettersEngine()
    engine.text = LetterText()
    with serving(engine) as served:
        answer = web.post(f"{served.url}/{path}", json=fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(fields)))
        assert "ask it at /v1/completions" in answer.json()["error"]["message"]
        assert web.post(f"{served.url}/completions", json={"prompt": "a"}).status_code == 200


def test_responses_of_text(ask):
    answer = ask("/v1/responses", input="abc", seed=5).json()
    same = ask(messages=[{"role": "user", "content": "abc"}], seed=5).json()
    assert answer["object"] == "response"
    assert answer["output"][0]["content"][0]["text"] == same["choices"][0]["message"]["content"]
    assert answer["status"] == {"stop": "completed", "length": "incomplete"}[same["choices"][0]["finish_reason"]]
    assert answer["usage"]["output_tokens"] == same["usage"]["completion_tokens"]
    for tokens in (1, 12):
        cut = ask(
            "/v1/responses", input="abc", seed=5, max_output_tokens=tokens, top_logprobs=0, text={}, reasoning={}
        ).json()
        assert cut["output"][0]["status"] == cut["status"]
        assert cut["output"][0]["content"][0]["text"]
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "abc"}]}]
    assert ask("/v1/responses", input=turns, seed=5).json()["output"] != []
    short = ask("/v1/responses", input="abc", instructions="d", max_output_tokens=3).json()
    assert short["powercut"]["settings"]["max_new_tokens"] == 3
    differ = ask("/v1/responses", input="abc", max_output_tokens=3, max_tokens=4)
    assert (differ.status_code, differ.json()["error"]["param"]) == (400, "max_tokens")
    for fields in ({"previous_response_id": "x"}, {"store": True}, {"tools": [{"type": "web_search"}]}, {"n": 2}):
        refused = ask("/v1/responses", input="abc", **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(fields)))
    assert ask("/v1/responses", input=[{"type": "function_call_output"}]).json()["error"]["param"] == "input"


def test_tokenize_and_detokenize(served, ask):
    assert ask("/tokenize", prompt="abc").json() == {"count": 3, "tokens": [1, 2, 3], "max_model_len": 64}
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert ask("/tokenize", messages=turns, return_token_strs=True).json()["token_strs"] == ["a", "a", "b"]
    assert ask("/detokenize", tokens=[1, 2]).json() == {"prompt": "ab"}
    ask("/tokenize", messages=turns, chat_template_kwargs={"enable_thinking": False}, add_generation_prompt=True)
    assert served.engine.text.asked[-1] == {"enable_thinking": False}
    for fields, param in (
        ({"messages": turns, "add_generation_prompt": False}, "add_generation_prompt"),
        ({"messages": turns, "add_special_tokens": True}, "add_special_tokens"),
        ({"prompt": "a", "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"prompt": "a", "bogus": 1}, "bogus"),
    ):
        refused = ask("/tokenize", **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    for path, fields in (
        *(("/tokenize", {}), ("/tokenize", {"prompt": "a", "messages": turns})),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [512]}),
        ("/v1/completions", {"prompt": [512], "echo": True}),
        ("/tokenize", {"prompt": "a", "add_special_tokens": False}),
    ):
        assert ask(path, **fields).status_code == 400
    assert web.get(f"{served.root}/tokenizer_info").status_code == 404
