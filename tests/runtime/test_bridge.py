"""The bridge process and the interpreter that started it end together."""

import asyncio
import os

import pytest

from tests.runtime.test_loop import run_script
from voxnb.media.crossing import SIDE
from voxnb.runtime import bridge, loop

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


def test_who_asks_for_the_process_while_its_last_user_leaves_gets_one_that_stays():
    told = []

    class User:
        def lost(self, error):
            told.append(error)

    async def meet():
        first = bridge.shared()
        number = first.make(User(), SIDE)
        leaving = asyncio.ensure_future(first.release(number))
        await asyncio.sleep(0)  # it has begun to
        second = bridge.shared()
        other = second.make(User(), SIDE)
        await leaving
        assert second is not first
        await second.release(other)

    loop.submit(meet()).result(30)
    assert told == []
