"""Names of GGUF files: which are some, what is found for them, and what is said where nothing is."""

import pytest

import powercut as pc
from powercut.models.gguf_files import find_gguf, is_gguf, parts_of


def test_names():
    assert [is_gguf(name) for name in ("a.gguf", "x/y/B.GGUF", "a.gguf/", "gguf", "org/model")] == [True, True] + 3 * [
        False
    ]


def test_a_model_in_parts_is_named_by_its_first(tmp_path):
    first, second = parts = [tmp_path / f"big-{i:05d}-of-00002.gguf" for i in (1, 2)]
    for part in parts:
        part.touch()
    assert parts_of(first) == parts
    assert parts_of(tmp_path / "one.gguf") == [tmp_path / "one.gguf"]
    with pytest.raises(pc.EngineError, match=r"give the first, big-00001-of-00002\.gguf"):
        parts_of(second)
    second.unlink()
    with pytest.raises(pc.EngineError, match=r"one of 2 parts, and big-00002-of-00002\.gguf is not beside it"):
        parts_of(first)


@pytest.mark.parametrize("name", ["a-00001-of-00000.gguf", "a-00000-of-00000.gguf", "a-00003-of-00002.gguf"])
def test_numbers_of_no_part_are_part_of_a_name(tmp_path, name):
    assert parts_of(tmp_path / name) == [tmp_path / name]


def test_a_file_is_found_and_its_neighbours_are_named(tmp_path):
    file = tmp_path / "model.gguf"
    file.touch()
    assert find_gguf(str(file)) == file
    for name, words in (
        (tmp_path / "modle.gguf", f"did you mean {file}"),
        (tmp_path, "is a folder: give one of its files, model.gguf"),
        (tmp_path / "model.bin", "give a .gguf file"),
        ("nowhere.gguf", "there is no file nowhere.gguf"),
    ):
        with pytest.raises(pc.EngineError, match=words) as error:
            find_gguf(str(name))
        assert "\n" not in str(error.value)


def test_a_file_of_the_hub_is_fetched_with_all_its_parts(monkeypatch, tmp_path):
    fetched = []

    def fetch(repo, file):
        fetched.append((repo, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert find_gguf("org/model/q4-00001-of-00002.gguf") == tmp_path / "q4-00001-of-00002.gguf"
    assert fetched == [("org/model", f"q4-0000{i}-of-00002.gguf") for i in (1, 2)]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def away(repo, file):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", away)
    with pytest.raises(pc.EngineError, match=r"org/model/a.gguf is no file here, and .* \(no route to host\)"):
        find_gguf("org/model/a.gguf")
