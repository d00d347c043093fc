"""Heavy packages: an interrupt ends the wait for them, never their import."""

import subprocess
import sys
import textwrap
import threading

import pytest

from voxnb.runtime import packages

INTERRUPTING = """
    import os, signal, sys, threading

    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupting:
        def find_spec(self, name, path=None, target=None):
            if name == sys.argv[1]:
                sys.argv[1] = ""
                os.kill(os.getpid(), signal.SIGINT)

    sys.meta_path.insert(0, Interrupting())
"""


def run_script(*parts, moment=""):
    """Run code in a process that is interrupted when it begins to import a module."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "".join(map(textwrap.dedent, parts)), moment],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["sqlite_utils.db", "numpy._core.printoptions", "pandas._libs.tslibs.conversion", "pandas.core.arrays"],
)
def test_after_an_interrupt_of_the_first_chat_the_next_one_answers(moment):
    done = run_script(
        INTERRUPTING,
        """
        import voxnb
        from voxnb import testing

        with testing.server("hi") as server:
            def chat():
                return voxnb.chat("gpt-4o", base_url=server.base_url, store=":memory:", conversation="x", max_retries=0)

            try:
                chat()
            except KeyboardInterrupt:
                print("interrupted")
            try:
                print(chat().ask("b").result(10), flush=True)
            finally:
                os._exit(0)  # a process whose import lock is held never ends by itself
        """,
        moment=moment,
    )
    assert (done.stdout.split(), done.stderr) == (["interrupted", "hi"], "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "moment"),
    [
        ("voxnb.RealtimeAPIClient", "numpy._core.printoptions"),
        ("from voxnb import media", "numpy._core.printoptions"),
        ("from voxnb.runtime.stats import Statistics; Statistics().df", "pandas._libs.tslibs.conversion"),
        ("from voxnb.runtime.encodings import count_each; count_each('o200k_base', ['a'])", "numpy._core.printoptions"),
    ],
)
def test_what_was_interrupted_can_be_done_again(statement, moment):
    body = f"""
        import voxnb

        try:
            {statement}
        except KeyboardInterrupt:
            print("interrupted")
        {statement}
        print("done")
        """
    done = run_script(INTERRUPTING, body, moment=moment)
    assert (done.stdout.split(), done.stderr) == (["interrupted", "done"], "")


def test_a_process_that_is_interrupted_ends_when_the_import_has(tmp_path):
    (tmp_path / "heavy.py").write_text("import os\nos.write(1, b'whole ')\n")
    done = run_script(
        INTERRUPTING,
        f"""
        sys.path.insert(0, {str(tmp_path)!r})
        from voxnb.runtime.packages import import_apart

        try:
            import_apart("heavy")
        except KeyboardInterrupt:
            os.write(1, b"interrupted ")
        """,
        moment="heavy",
    )
    assert (sorted(done.stdout.split()), done.stderr, done.returncode) == (["interrupted", "whole"], "", 0)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module; what it says in ``thread`` is where it was imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, code="import threading\nthread = threading.current_thread()\n"):
        (tmp_path / f"{name}.py").write_text(code)
        return name

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


def test_a_package_is_imported_beside_the_main_thread(module):
    packages.import_apart(module("voxnb_heavy"))
    assert sys.modules["voxnb_heavy"].thread is not threading.main_thread()


def test_the_second_time_no_thread_is_started(module, monkeypatch):
    packages.import_apart(module("voxnb_heavy"))
    monkeypatch.setattr(threading, "Thread", None)
    packages.import_apart("voxnb_heavy")


def test_a_package_that_is_half_imported_is_waited_for(module):
    module(
        "voxnb_heavy",
        "import threading\nbegun, go_on = threading.Event(), threading.Event()\nbegun.set()\ngo_on.wait(60)",
    )
    first = threading.Thread(target=__import__, args=("voxnb_heavy",))
    first.start()
    while (half := sys.modules.get("voxnb_heavy")) is None or not hasattr(half, "begun"):
        first.join(0.001)
    assert half.begun.wait(60)
    threading.Timer(0.0, half.go_on.set).start()
    packages.import_apart("voxnb_heavy")
    assert half.go_on.is_set()
    first.join()


def test_another_thread_is_left_to_its_own_import(module):
    name = module("voxnb_heavy")
    thread = threading.Thread(target=packages.import_apart, args=(name,))
    thread.start()
    thread.join()
    assert name not in sys.modules


def test_a_module_that_asks_while_it_is_imported_does_not_wait_for_itself(module):
    module("voxnb_heavy", "import voxnb_asking\nready = True")
    module("voxnb_asking", "from voxnb.runtime.packages import import_apart\nimport_apart('voxnb_heavy')\n")
    __import__("voxnb_heavy")
    assert sys.modules["voxnb_heavy"].ready


def test_a_missing_package_raises_as_import_does():
    with pytest.raises(ModuleNotFoundError, match="No module named 'voxnb_missing'"):
        packages.import_apart("voxnb_missing")


def test_where_no_thread_can_start_any_more_the_caller_imports(module, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    packages.import_apart(module("voxnb_heavy"))
    assert "voxnb_heavy" not in sys.modules
