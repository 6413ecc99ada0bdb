"""Verdicts on programs in Lua, Ruby, Perl and awk.

Unlike those of test_verdicts_held_out.py they were first recorded when the rules were finished, and changed none
(`docs/verdicts.md`).
"""

import pytest
from holding import Holder, recorded
from session import REPOSITORY, debian_program

#: Each runs as long, so that they end together. A cache is full after 20 rounds of the 500 that there is time for,
#: and the words are counted nearly all after 170: later than a table at the start would be.
SECONDS = 30
CLASS_OF = {
    "lua5.4 entries": "growing",
    "lua5.4 newest": "plateau",
    "lua5.4 handlers": "growing",
    "ruby subscribers": "growing",
    "ruby cache": "plateau",
    "perl log": "growing",
    "gawk seen": "growing",
    "gawk words": "plateau",
}
SOURCES = {"lua5.4": "holders.lua", "ruby": "holders.rb", "perl": "holders.pl", "gawk": "holders.awk"}


def start(program):
    """An interpreter, running one behaviour."""
    interpreter, behaviour = program.split()
    source = str(REPOSITORY / "testdata/programs" / SOURCES[interpreter])
    command = [debian_program(interpreter)]
    if interpreter == "gawk":
        return Holder([*command, "-v", f"behaviour={behaviour}", "-v", f"seconds={SECONDS}", "-f", source])
    return Holder([*command, source, behaviour, str(SECONDS)])


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """By program, the stack that is asked about."""
    return recorded(start, CLASS_OF, tmp_path_factory.mktemp("languages") / "trace.parquet")


@pytest.mark.parametrize("program", CLASS_OF)
def test_verdict(stacks, program):
    """The verdict is the class that follows from what the program does."""
    assert stacks[program]["verdict"] == CLASS_OF[program], stacks[program]["verdict_evidence"]
