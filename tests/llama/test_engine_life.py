"""From loading to the end: several engines, threads and processes, memory that is given back."""

import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest

import powercut as pc
from powercut.engines.llama import library
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model

ONE = pc.Standard(max_new_tokens=1, top_k=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_model("llama", vocab_size=6))


def load(file):
    return pc.load(str(file), slots=2, context_length=32)


@pytest.mark.parametrize("closed", [True, False])
def test_memory_is_given_back_once(file, monkeypatch, closed):
    functions, freed = library.llama(), []

    def noted(name):
        free = getattr(functions, name)
        return lambda pointer: freed.append((name, pointer)) or free(pointer)

    for name in ("llama_free", "llama_model_free"):
        monkeypatch.setattr(functions, name, noted(name))
    engine = load(file)
    ours = engine._context.pointer, engine._model.pointer  # engines of other tests may be collected meanwhile
    pc.sample(engine, ONE, [[1]])
    assert not any(pointer in ours for _, pointer in freed)
    if closed:
        asyncio.run(engine.aclose())
    del engine
    gc.collect()
    assert [name for name, pointer in freed if pointer in ours] == ["llama_free", "llama_model_free"]


def test_text_outlives_an_engine_that_is_gone_and_says_so_of_one_that_is_closed(file):
    engine = load(file)
    text = engine.text
    ids = asyncio.run(text.encode("a!"))
    asyncio.run(engine.aclose())
    for ask in (text.encode("a"), text.decode([1, 2])):
        with pytest.raises(pc.EngineError, match="closed: load the model again"):
            asyncio.run(ask)
    with pytest.raises(pc.EngineError, match="closed: load the model again"):
        pc.sample(engine, ONE, ["a!"])
    text = load(file).text
    gc.collect()
    assert asyncio.run(text.encode("a!")) == ids


def test_what_other_threads_load_is_not_counted(file):
    with library.listening() as said:
        thread = threading.Thread(target=load, args=(file,))
        thread.start()
        thread.join()
    assert said == []


def test_a_fork_is_told_to_load_the_model_anew(file):
    """Threads do not outlive a fork: a request there would wait for ever."""
    code = f"""
import os
import powercut as pc
engine = pc.load({str(file)!r}, slots=2, context_length=32)
one = pc.Standard(max_new_tokens=1, top_k=6)
pc.sample(engine, one, [[1]])
if not os.fork():
    try:
        pc.sample(engine, one, [[1]])
    except pc.EngineError as error:
        print(error, flush=True)
    pc.sample(pc.load({str(file)!r}, slots=2, context_length=32), one, [[1]])
    print("loaded anew", flush=True)
    os._exit(0)
os.wait()
print(len(pc.sample(engine, one, [[1]])))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert ran.stdout.splitlines()[0].startswith("this engine was loaded in the process of which this one is a fork")
    assert ran.stdout.splitlines()[1:] == ["loaded anew", "1"]


def test_a_name_that_is_no_text(file, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/na\xefve \xe2\x80\x9cq\xe2\x80\x9d'.gguf")
    os.link(file, odd)
    assert len(pc.sample(load(odd), ONE, [[1]])) == 1
