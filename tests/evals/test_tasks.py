"""Every task on rows of its own: read, prompted, graded."""

import asyncio
import json

import pytest

from powercut.errors import SettingError
from powercut.evals.problem import Problem
from powercut.evals.sandbox.local_sandbox import LocalSandbox
from powercut.evals.styles import STYLES, choose_style, make_prompt
from powercut.evals.tasks import TASKS

CODE = {
    "task_id": "own/0",
    "prompt": 'def double(x: int) -> int:\n    """Twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
    "entry_point": "double",
}
GPQA = {
    "Question": "Which of these is prime?",
    "Correct Answer": "7\n",
    "Incorrect Answer 1": "8",
    "Incorrect Answer 2": "9",
    "Incorrect Answer 3": "10",
    "Record ID": "rec1",
}
OWN = {
    "math500": ({"problem": "Half of one?", "answer": r"\frac12", "unique_id": "a"}, r"\boxed{0.5}", r"\boxed{0.6}"),
    "humaneval": (CODE, "    return x + x\n", "    return x\n"),
    "gpqa-diamond": (GPQA, r"\boxed{7}", r"\boxed{8}"),
    "aime26": ({"problem": "?", "answer": 73, "problem_idx": 1}, r"\boxed{073}", r"\boxed{730}"),
    "gsm8k": ({"question": "1 + 13?", "answer": "It is 14.\n#### 14"}, "So it is **14** apples.", "So it is 15."),
    "arithmetic": ({"question": "1 + 13?", "answer": "14"}, "So it is 14.", "So it is 15."),
}
"""A row, a right answer and a wrong one."""


def save(tmp_path, *rows):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("name", TASKS)
def test_a_task_from_a_file_to_its_grades(name, tmp_path):
    row, right, wrong = OWN[name]
    task = TASKS[name]
    [problem] = task.problems(data=save(tmp_path, row))
    grades = [asyncio.run(task.score(problem, text, LocalSandbox())) for text in (right, wrong, "")]
    assert [grade.correct for grade in grades] == [True, False, False]
    assert grades[1].reason
    assert grades[2].reason == "no answer in the text"
    assert grades[2].answer is None


def test_published_settings():
    assert {(t.name, t.max_new_tokens, t.alpha) for t in TASKS.values()} >= {
        ("math500", 3072, 4),
        ("humaneval", 3072, 5),
        ("gpqa-diamond", 6144, 4),
        ("aime26", 6144, 4),
    }
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", TASKS)
def test_every_style_has_a_prompt_for_every_task(name, style, tmp_path):
    task = TASKS[name]
    [problem] = task.problems(data=save(tmp_path, OWN[name][0]))
    prompt = make_prompt(STYLES[style], task.kind, problem)
    text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    assert problem.question in text
    assert (r"\boxed{" in text) == (task.kind != "code")
    assert all(choice in text for choice in problem.choices)
    assert isinstance(prompt, str) == (task.kind not in STYLES[style].chat)


def test_the_style_of_a_model():
    assert choose_style(None, "Qwen/Qwen2.5-Math-7B") == "qwen-math"
    assert choose_style(None, "HuggingFaceTB/SmolLM2-135M-Instruct") == "chat"
    assert choose_style(None, "some/base", has_chat_template=False) == "base"
    assert choose_style("base", "Qwen/Qwen2.5-Math-7B") == "base"
    assert choose_style("paper", "Qwen/Qwen2.5-7B") == "paper"
    assert choose_style("paper", "microsoft/Phi-4-mini-instruct") == "paper-chat"
    with pytest.raises(SettingError, match="the styles are chat, base"):
        choose_style("chatty")
    with pytest.raises(SettingError, match="use base"):
        choose_style("chat", has_chat_template=False)


def test_the_published_prompts():
    problem = Problem("1", "Is {x} 2?", "B", ("no", "yes"))
    paper, chat = STYLES["paper"], STYLES["paper-chat"]
    maths = make_prompt(paper, "math", problem)
    assert maths.startswith("Can you solve the following math problem?")
    assert maths.split("\n\n")[1] == "Is {x} 2?"
    assert maths.count(r"\boxed{{}}") == 2  # the published texts were never formatted
    system, user = make_prompt(chat, "math", problem)
    assert (system["role"], user) == ("system", {"role": "user", "content": maths})
    choice = make_prompt(paper, "choice", problem)
    assert choice.endswith("\n\nIs {x} 2?\n\nA) no\nB) yes")
    assert r"'\boxed{$LETTER}' (without quotes) where LETTER is one of AB." in choice
    assert make_prompt(chat, "choice", problem) == [{"role": "user", "content": choice}]
    assert make_prompt(paper, "code", problem) == make_prompt(chat, "code", problem) == "Is {x} 2?"
    assert len(paper.stop["code"]) == 10
