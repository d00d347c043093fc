"""What a merge found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from voxnb.store.report import counted


class Forked(NamedTuple):
    """A conversation that had gone on differently in the two stores.

    Attributes:
        name: here; its turns are as they were.
        fork: name of the conversation that has the other store's course.
        after: last turn that both share.
    """

    name: str
    fork: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a merge added, what was there already, and what went otherwise than one may think.

    Attributes:
        path: the other store; it is as it was.
        added: kind (``conversations turns messages summaries calls events media notes prompts pins``) → how many are new.
        known: likewise, how many were here already.
        names: of the new conversations, forks included.
        continued: names of conversations that were here and had only gone on there.
        forked: conversations that had gone on differently in both: the other's course is a fork now.
        renamed: name there → name here, where it was taken by another conversation.
        renumbered: prompt there → prompt here, such as ``"sum@2"`` → ``"sum@3"``, where this version says something else.
        running: turns that somebody is still answering there: they and what follows them were left; merge again later.
        redacted_here: ids of turns that are redacted here and not there: they stay redacted.
        redacted_there: ids of turns that are redacted there and not here: their words are still here.
    """

    path: str
    added: Mapping[str, int]
    known: Mapping[str, int]
    names: tuple[str, ...] = ()
    continued: tuple[str, ...] = ()
    forked: tuple[Forked, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    renumbered: Mapping[str, str] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    redacted_here: tuple[str, ...] = ()
    redacted_there: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was new."""
        return any(self.added.values())

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "forked": [fork._asdict() for fork in self.forked]}

    def __str__(self) -> str:
        new = ", ".join(_number(count, kind) for kind, count in self.added.items() if count)
        old = ", ".join(_number(count, kind) for kind, count in self.known.items() if count)
        lines = [f"new: {new or 'nothing'}; here already: {old or 'nothing'}"]
        lines += [f"- {name!r} went on" for name in self.continued]
        lines += [
            f"- {name!r} went on differently after turn {after}: the other course is {fork!r}"
            for name, fork, after in self.forked
        ]
        lines += [f"- {there!r} is {here!r} here: the name is taken" for there, here in self.renamed.items()]
        lines += [f"- the prompt {there!r} is {here!r} here" for there, here in self.renumbered.items()]
        if self.running:
            lines.append(f"- still running there, left out with what follows: {_few(self.running)}; merge again later")
        if self.redacted_here:
            lines.append(f"- redacted here, and so they stay: {_few(self.redacted_here)}")
        if self.redacted_there:
            lines.append(f"- redacted there and not here, redact() them if they should be: {_few(self.redacted_there)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Merge of {self.path!r}: {self}>"


def _number(count: int, kind: str) -> str:
    return counted(count, "summary" if kind == "summaries" else kind.removesuffix("s"))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


@dataclass(slots=True)
class Found:
    """Gathers a `Merge` while it happens."""

    path: str
    added: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    continued: list[str] = field(default_factory=list)
    forked: list[Forked] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    renumbered: dict[str, str] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    redacted_here: dict[int, str] = field(default_factory=dict)
    redacted_there: list[str] = field(default_factory=list)

    def count(self, kind: str, *, new: bool, by: int = 1) -> None:
        """One more of a kind."""
        counts = self.added if new else self.known
        counts[kind] = counts.get(kind, 0) + by

    def merge(self) -> Merge:
        """The value."""
        return Merge(
            path=self.path,
            added=dict(self.added),
            known=dict(self.known),
            names=tuple(self.names),
            continued=tuple(self.continued),
            forked=tuple(self.forked),
            renamed=dict(self.renamed),
            renumbered=dict(self.renumbered),
            running=tuple(self.running),
            redacted_here=tuple(self.redacted_here.values()),
            redacted_there=tuple(self.redacted_there),
        )
