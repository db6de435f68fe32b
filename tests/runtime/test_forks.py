"""Forked children that use a model, drop it, or only end: none waits for threads that are not there."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")

SECONDS = 300  # a child that hangs does so for ever; a busy machine takes its time

PARENT = """
import multiprocessing, os, sys, threading, time, warnings
from diffutron_ort import Diffutron
from diffutron_ort.runtime.generation import Generation

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point
os.chdir({folder!r})
model = Diffutron.from_pretrained({bundle}, threads={threads}, spin={spin})
generation = Generation(model.bundle, threads={threads})
question, said = "On iki artı beş kaç eder?", "on yedi"
cached = dict(cache="block", max_new_tokens=64, block_length=16, early_end=False)

def graph():
    ids = model._prompts.canvas(question, True, model.config()).ids[:-64]
    return generation(ids, model.config()).answer_length

def right(model=model):
    assert model.generate(question) == said, model.generate(question)

def forked(child):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = child() or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"

length = graph()
right()
{pause}
{what}
right()
assert graph() == length
print("the parent went on", flush=True)
"""

CHILDREN = {
    "generates": "forked(right)",
    "runs the one graph": "forked(lambda: 0 if graph() == length else 1)",
    "streams": "forked(lambda: 0 if list(model.stream(question))[-1].text == said else 1)",
    "fills": "forked(lambda: 0 if model.fill('On iki <mask> beş') else 1)",
    "does nothing": "forked(lambda: 0)",
    "drops the model": """
        def child():
            global model, generation
            del model, generation
            import gc
            gc.collect()
        forked(child)
        """,
    "uses it, then drops it": """
        def child():
            global model, generation
            right(), graph()
            del model, generation
        forked(child)
        """,
    "goes on with a stream": """
        for options in ({}, cached):
            expected = list(model.stream(question, **options))[-1].text
            stream = model.stream(question, **options)
            for _ in range(5):
                next(stream)
            forked(lambda: 0 if list(stream)[-1].text == expected else 1)
            assert list(stream)[-1].text == expected
        """,
    "closes a stream": """
        stream = model.stream(question, **cached)
        for _ in range(5):
            next(stream)
        forked(lambda: stream.close())
        """,
    "exits": """
        for end in ("pass", "os._exit(0)", "right()", "graph()", "next(stream)"):
            stream = model.stream(question, **cached)
            next(stream)
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                exec(end)
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0, end
        """,
    "falls off the end": """
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        else:
            print = lambda *_, **__: None
        """,
    "forks again": """
        def child():
            forked(right), forked(lambda: 0)
            right()
            forked(right), forked(lambda: 0)
        forked(child)
        """,
    "is a process of multiprocessing": """
        for target in (right, graph, lambda: None):
            process = multiprocessing.get_context("fork").Process(target=target)
            process.start()
            process.join()
            assert process.exitcode == 0
        """,
    "is one of a pool": """
        def answer(question):
            return model.generate(question)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(answer, [question] * 2) == [said] * 2
        pool.join()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(len, ["a", "b"]) == [1, 1]
            pool.close()
            pool.join()
        """,
    "is forked in a thread": """
        failed = []
        def work():
            try:
                for child in (right, graph, lambda: None):
                    forked(lambda: child() and 0)
            except AssertionError as error:
                failed.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not failed
        """,
    "is forked while others run": """
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                right()
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        forked(right), forked(lambda: None)
        stop.set()
        for thread in threads:
            thread.join()
        """,
    "is somewhere else": """
        def child():
            os.chdir("/")
            right(), graph()
            assert model.fill("On iki <mask> beş")
        forked(child)
        os.chdir("/")
        forked(child)
        """,
}


ASLEEP = {"threads": 2, "spin": True, "idle": True}
OTHERS = {"awake": {**ASLEEP, "idle": False}, "without spinning": {"threads": 3, "spin": False, "idle": False}}


@pytest.mark.parametrize("what", CHILDREN)
def test_a_child(what, broken):
    check(what, broken, **ASLEEP)


@pytest.mark.parametrize("parent", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("what", ["generates", "drops the model", "exits"])
def test_a_child_of_another_parent(what, parent, broken):
    check(what, broken, **parent)


def check(what, broken, threads, spin, idle):
    """The threads of a pool that has been idle for a second sleep; a session that is destroyed then waits for them."""
    code = PARENT.format(
        folder=str(broken.parent),
        bundle=repr(broken.name) if what == "is somewhere else" else None,
        threads=threads,
        spin=spin,
        pause="time.sleep(1.5)" if idle else "",
        what=textwrap.dedent(CHILDREN[what]),
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the parent went on\n"
