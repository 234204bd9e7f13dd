"""The generated problems: their answers are right, they are distinct, and a seed gives the same ones everywhere."""

import hashlib
import re

import pytest

from powercut.errors import SettingError
from powercut.evals.graders.number import grade_number as grade
from powercut.evals.tasks.arithmetic import LARGEST_ANSWER, PEOPLE, THINGS, problems


def shape(question):
    """The question without its names: what makes two problems the same problem."""
    return re.sub("|".join((*PEOPLE, *THINGS)), "_", question)


def test_the_first_problems_of_seed_0():
    assert [(p.question, p.answer) for p in problems(3)] == [
        (
            "There are 14 people on a bus. At the first stop 4 get off and at the second stop 3 get on. "
            "How many people are on the bus now?",
            "13",
        ),
        ("Mia buys 4 packs of 6 books and gives 9 books to Lily. How many books does Mia keep?", "15"),
        ("Ben has 12 marbles. Mia gives Ben 2 more marbles. How many marbles does Ben have now?", "14"),
    ]


def test_a_seed_gives_these_problems_for_good():
    """Published numbers refer to them: a change here is a new task."""
    text = "\n".join(f"{p.id} {p.question} {p.answer}" for p in problems(1000))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2a3ac33e4337f138"


def test_hundreds_of_distinct_problems_that_do_not_depend_on_n():
    made = problems(600, seed=3)
    assert len({p.id for p in made}) == len({shape(p.question) for p in made}) == 600
    assert problems(7, seed=3) == made[:7]
    assert problems(600, seed=4) != made


def test_all_there_are():
    made = problems(8631)
    assert len({shape(p.question) for p in made}) == 8631
    assert all(1 <= int(p.answer) <= LARGEST_ANSWER for p in made)
    assert not any("{" in p.question for p in made)
    with pytest.raises(SettingError, match="8631"):
        problems(8632)


@pytest.mark.parametrize("arguments", [(-1, 0), (1, -1)])
def test_negative_settings_are_refused(arguments):
    with pytest.raises(SettingError, match="at least 0"):
        problems(*arguments)


CALCULATIONS = [
    (r"(\d+) people on a bus. At the first stop (\d+) get off and at the second stop (\d+)", lambda a, b, c: a - b + c),
    (r"buys (\d+) packs of (\d+) \w+ and gives (\d+)", lambda a, b, c: a * b - c),
    (r"has (\d+) boxes with (\d+) \w+ in each box, and (\d+) more", lambda a, b, c: a * b + c),
    (r"shares (\d+) \w+ equally among (\d+)", lambda a, b: a // b),
    (r"has (\d+) dollars and buys (\d+) toys for (\d+)", lambda a, b, c: a - b * c),
    (r"picks (\d+) red flowers and (\d+) white flowers and puts them into (\d+)", lambda a, b, c: (a + b) // c),
    (r"has (\d+) \w+. \w+ has (\d+) times as many", lambda a, b: a * (1 + b)),
]


@pytest.mark.parametrize(("pattern", "calculate"), CALCULATIONS)
def test_answers_follow_from_the_text(pattern, calculate):
    """Worked out again from the words, for some of the templates."""
    found = [(p, match) for p in problems(600) if (match := re.search(pattern, p.question))]
    assert len(found) > 5
    for problem, match in found:
        assert int(problem.answer) == calculate(*map(int, match.groups())), problem


def test_every_answer_is_graded_correct_and_its_neighbour_wrong():
    for problem in problems(300):
        assert grade(problem, f"So the answer is {problem.answer}.").correct
        assert not grade(problem, f"So the answer is {int(problem.answer) + 1}.").correct
