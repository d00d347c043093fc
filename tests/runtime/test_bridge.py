"""The bridge process and the interpreter that started it end together."""

import os

import pytest

from tests.runtime.test_loop import run_script

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("last", ["loop.submit(one.release(99))", "pass"])
def test_an_interpreter_that_exits_waits_for_the_end_of_its_process(last):
    done = run_script(f"""
        from voxnb.runtime import bridge, loop
        async def start():
            return bridge.shared()
        one = loop.submit(start()).result()
        print(one.pid)
        {last}
    """)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
