"""The commands that README.md and the help show are commands."""

import re
import shlex

import pytest

from voxnb.cli import calling
from voxnb.cli.parser import EXAMPLES, build
from voxnb.cli.talking import CHAT_EPILOG


def shown(text):
    """Every `voxnb …` in it, up to a pipe, a redirection or a remark."""
    for line in re.findall(r"(?:^|\| )\s*(voxnb [a-z][^|#<>\n]*)", text, re.MULTILINE):
        yield line.split("   ")[0].strip()


def test_each_can_be_parsed(root, capsys):
    readme = "\n".join(re.findall(r"```bash\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL))
    commands = [*shown(readme), *shown(EXAMPLES), *shown(CHAT_EPILOG), *shown(calling.EPILOG)]
    assert len(commands) >= 15
    for line in commands:
        assert build().parse_args(shlex.split(line)[1:]).command, line


def test_what_is_no_command_is_found():
    with pytest.raises(SystemExit):
        build().parse_args(shlex.split("show --no-such thing"))
    assert list(shown('echo "Hi" | voxnb chat --base-url local   # a remark')) == ["voxnb chat --base-url local"]
