"""From the failures of many experiments to what they have in common: a cause each, and no more causes than there are.

Two experiments fail alike where the same check fails first, on the same side, at the same stage, in the same kind of
model. Of several kinds it is one cause as well where what they fail at is not the model's own (an optimizer, a loss),
where all look like the same known variant, whatever the stage is called, or where no kind is spared.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crosscheck.checks import initialization
from crosscheck.comparison import Comparison
from crosscheck.judging.summary import Summary
from crosscheck.judging.verdict import Verdict
from crosscheck.report import convergence, details, stages
from crosscheck.report.model import Cause, Fact, ReportStatus, SourceLine
from crosscheck.report.where import OF_MODELS, SourceFinder
from spec import text

SPARED = 3
"""So many kinds of models at least have to fail before none being spared says that it is one cause."""

NAMED = 4
"""Families, or subjects, that are named in a line, at most."""

ALSO = 20
"""Further failures of an example that are listed, each in a line."""

TRIED = 100
"""Variants tried in vain that are listed."""

OWN_OF_MODELS = (*OF_MODELS, "initialization", "round-trip")
"""Checks in which a failure is one of the model's own parameters or stages."""

NUMBERS = re.compile(r"\d+")


class Failing(NamedTuple):
    """An experiment's first failure, and what is known of it. kind: of cause; family: the model's kind.

    variant: what it looks like, without numbers; empty where nobody knows. everywhere: whether it is of no tensor in
    particular, although its check looks at one after the other.
    """

    verdict: Verdict
    first: Comparison
    status: ReportStatus
    at_fault: str
    stage: str
    variant: str
    everywhere: bool = False

    @property
    def family(self) -> str:
        return self.verdict.family

    @property
    def shape(self) -> str:
        """The stage with its numbers left out: the third layer of one experiment and the first of another."""
        return NUMBERS.sub("#", self.stage)


Group = list[Failing]

Asked = dict[tuple[str, str], set[str]]
"""Kinds of models of which a check compared a tensor, or anything where that has no name."""


def causes_of(summary: Summary) -> list[Cause]:
    """What keeps the run from "the same": what concerns most experiments first, of what is known to be wrong; then what
    is open."""
    failing = [_failing(verdict) for verdict in summary.experiments if verdict.failures]
    groups = _groups(failing, _asked(summary)) if failing else []
    sources = {side.name: SourceFinder(side.implementation, side.name) for side in summary.sides}
    found = [_cause(group, summary, sources) for group in groups]
    order: Sequence[ReportStatus] = ("different", "crashed")
    found.sort(key=lambda cause: (order.index(cause.status), -len(cause.subjects), summary.checks.index(cause.check)))
    return [*found, *_underpowered(summary), *_partly(summary), *_nothing(summary)]


def _failing(verdict: Verdict) -> Failing:
    first, blame, explained = verdict.failures[0], verdict.blame, verdict.explanation
    departure = blame.departures[0] if blame and blame.departures else None
    stage = departure.stage if departure else ""
    if first.crashed:
        stage = first.note
    elif not stage or stage == first.check:
        # The check itself says no more than where to look.
        stage = _tensor(departure.tensor if departure else first.tensor, first)
    question = _of_every_tensor(first, verdict.comparisons)
    return Failing(
        verdict=verdict,
        first=first,
        status="crashed" if first.crashed else "different",
        at_fault=blame.at_fault if blame else "",
        stage=text.admit(f"every tensor: {question}" if question else stage),
        everywhere=bool(question),
        variant=NUMBERS.sub("#", f"{explained.variant}: {explained.looks_like}")
        if explained and explained.looks_like
        else "",
    )


def _of_every_tensor(first: Comparison, comparisons: Iterable[Comparison]) -> str:
    """What was asked of each tensor that was drawn, and that none of them answered; else nothing.

    Whatever the first one is called in a model, it is not what is wrong.
    """
    if first.check != initialization.NAME or not first.array:
        return ""
    question = _question(first)
    place = (first.check, first.precision, first.alone)
    asked = [
        c for c in comparisons if (c.check, c.precision, c.alone) == place and c.array and _question(c) == question
    ]
    return question if len(asked) > 1 and all(c.failed for c in asked) else ""


def _question(comparison: Comparison) -> str:
    return comparison.tensor.removeprefix(comparison.array).removeprefix(", ")


def _tensor(tensor: str, first: Comparison) -> str:
    """Without the point at which it was looked at."""
    return tensor.removesuffix(f" ({first.point})") if first.point else tensor


def _groups(failing: Sequence[Failing], asked: Asked) -> list[Group]:
    alike: dict[tuple[str, ...], list[Group]] = {}
    families: dict[tuple[str, ...], dict[str, Group]] = {}
    for one in failing:
        place = (one.status, one.first.check, one.at_fault, one.shape)
        families.setdefault(place, {}).setdefault(one.family, []).append(one)
    for place, of_family in families.items():
        groups = [group for members in of_family.values() for group in _by_variant(members)]
        alike[place] = _joined(groups, asked)
    joined = _of_one_variant([group for groups in alike.values() for group in groups])
    return _without_exception(joined, asked)


def _by_variant(members: Group) -> list[Group]:
    """Apart where they are known to be different things; what nobody could explain goes with the only explanation."""
    named: dict[str, Group] = {}
    for one in members:
        named.setdefault(one.variant, []).append(one)
    if len(named.keys() - {""}) <= 1:
        return [members]
    return list(named.values())


def _variants(groups: Iterable[Group]) -> set[str]:
    return {one.variant for group in groups for one in group} - {""}


def _of_one_variant(groups: list[Group]) -> list[Group]:
    """Those that look like the same are one, whatever the stage is called in each kind of model."""
    found: dict[object, Group] = {}
    for number, group in enumerate(groups):
        one, variants = group[0], _variants([group])
        place = (one.status, one.first.check, one.at_fault, *variants) if variants else number
        found.setdefault(place, []).extend(group)
    return list(found.values())


def _joined(groups: list[Group], asked: Asked) -> list[Group]:
    """Those of several kinds of models at the same stage, where one cause explains all."""
    if len(groups) < 2 or len(_variants(groups)) > 1:
        by_variant: dict[str, list[Group]] = {}
        for group in groups:
            (variant,) = _variants([group]) or {""}
            by_variant.setdefault(variant, []).append(group)
        return [
            joined
            for variant, same in by_variant.items()
            for joined in ([[one for group in same for one in group]] if variant else same)
        ]
    first = groups[0][0]
    everywhere = first.everywhere or first.status == "crashed" or first.first.check not in OWN_OF_MODELS
    explained = all(_variants([group]) for group in groups)
    if everywhere or explained or _spares_none(groups, asked, first.first.recorded):
        return [[one for group in groups for one in group]]
    return groups


def _spares_none(groups: Iterable[Group], asked: Asked, tensor: str = "") -> bool:
    """Whether every kind of model that was asked is among them. tensor: of those alone that have it."""
    failing = [one for group in groups for one in group]
    check, hit = failing[0].first.check, {one.family for one in failing}
    return len(hit) >= SPARED and asked[check, tensor] <= hit


def _asked(summary: Summary) -> Asked:
    found: Asked = {}
    for verdict in summary.experiments:
        for place in {(comparison.check, comparison.recorded) for comparison in verdict.comparisons}:
            found.setdefault(place, set()).add(verdict.family)
            found.setdefault((place[0], ""), set()).add(verdict.family)
    return found


def _without_exception(groups: list[Group], asked: Asked) -> list[Group]:
    """One group where no kind of model is spared by a check, whatever each of them calls what is wrong."""
    found: list[Group] = []
    together: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        one = group[0]
        together.setdefault((one.status, one.first.check, one.at_fault), []).append(group)
    for same in together.values():
        one = same[0][0]
        if one.status == "different" and len(_variants(same)) <= 1 and _spares_none(same, asked):
            found.append([member for group in same for member in group])
        else:
            found += same
    return found


def _cause(group: Group, summary: Summary, sources: Mapping[str, SourceFinder]) -> Cause:
    order = [verdict.experiment for verdict in summary.experiments]
    group = sorted(group, key=lambda one: order.index(one.verdict.experiment))
    shapes = Counter(one.shape for one in group)
    example = min(group, key=lambda one: (not one.variant, -shapes[one.shape], _size(one.verdict)))
    verdict, first, blame = example.verdict, example.first, example.verdict.blame
    explained = verdict.explanation
    wrong = {name for departure in (blame.departures if blame else []) for name in departure.wrong}
    known = [*details.facts(first), *(details.blame_facts(blame) if blame else []), *details.looks_like(explained)]
    families = list(dict.fromkeys(one.family for one in group if one.family))
    alike = [one.family for one in group if one.family and one.shape == example.shape]
    spread = _Spread(group, summary, first.check)
    found = verdict.failures
    also = [text.admit(details.line(comparison)) for comparison in found[1 : ALSO + 1]]
    failing = [
        cell.check
        for one in group
        for cell in one.verdict.cells
        if cell.status in ("different", "crashed") and cell.check != first.check
    ]
    return Cause(
        title=text.admit(spread.title(first, example.stage if len(shapes) == 1 else "")),
        status=example.status,
        check=first.check,
        subjects=[named(one.verdict) for one in group],
        families=[text.admit(family, text.NAME) for family in families],
        whole=[text.admit(family, text.NAME) for family in spread.whole],
        fine=[text.admit(family, text.NAME) for family in spread.fine],
        at_fault=text.admit(example.at_fault, text.NAME),
        reason=text.admit(blame.reason) if blame else "",
        stage=example.stage,
        looks_like=text.admit(explained.looks_like) if explained else "",
        tried=[text.admit(one) for one in explained.tried[:TRIED]] if explained and not explained.looks_like else [],
        sources=_sources(example, list(dict.fromkeys(alike)), sources),
        example=named(verdict),
        facts=[Fact(name=text.admit(name, text.NAME), text=text.admit(words)) for name, words in known],
        comparison=first,
        traceback=text.admit(first.traceback, text.TRACEBACK, lines=True),
        reproduce=text.admit(summary.reproduce(verdict, first), text.TRACEBACK),
        failures=sum(len(one.verdict.failures) for one in group),
        later=[check for check in summary.checks if check in failing],
        also=also,
        more=max(len(found) - 1 - len(also), 0),
        growth=stages.of_comparisons(first, verdict.comparisons, wrong),
    )


def named(verdict: Verdict) -> str:
    """What the report calls the experiment."""
    return text.admit(verdict.experiment, text.NAME)


def _size(verdict: Verdict) -> int:
    return sum(cell.elements for cell in verdict.cells)


def _sources(example: Failing, families: Sequence[str], sources: Mapping[str, SourceFinder]) -> list[SourceLine]:
    """Of each side at fault."""
    if example.first.crashed:
        own = sources.get(example.first.alone)
        return own.frame(example.first.traceback) if own else []
    blame = example.verdict.blame
    sides = [departure.side for departure in blame.departures] if blame else []
    return [
        line
        for side in dict.fromkeys(sides)
        if side in sources
        for line in sources[side].stage(example.first.check, example.stage, families)
    ]


class _Spread:
    """How far a cause reaches. whole: kinds of models all of which it hits; fine: those that the check found nothing
    in."""

    def __init__(self, group: Group, summary: Summary, check: str) -> None:
        hit = {one.verdict.experiment for one in group}
        asked = [
            verdict
            for verdict in summary.experiments
            if any(cell.check == check and cell.status not in ("not applicable", "left out") for cell in verdict.cells)
        ]
        self.group, self.check = group, check
        self.everything = len(asked) > 1 and all(verdict.experiment in hit for verdict in asked)
        self.asked: dict[str, list[Verdict]] = {}
        for verdict in asked:
            self.asked.setdefault(verdict.family, []).append(verdict)
        self.hit = {
            family: [verdict for verdict in verdicts if verdict.experiment in hit]
            for family, verdicts in self.asked.items()
        }
        self.whole = [family for family, found in self.hit.items() if family and found and found == self.asked[family]]
        self.fine = [
            family
            for family, verdicts in self.asked.items()
            if family and all(_same(verdict, check) for verdict in verdicts)
        ]

    def title(self, first: Comparison, stage: str) -> str:
        """The cause in a line. stage: what is wrong, where that is the same in all."""
        count = len(self.group)
        parts = [self._who(), first.check, *([self._where(first, stage)] if stage else [])]
        said = ", ".join(parts)
        if count > 1:
            said += f": {count} experiments"
        if self.fine and not self.everything:
            said += f"; {listed(self.fine)} fine"
        return said

    def _who(self) -> str:
        if len(self.group) == 1:
            return self.group[0].verdict.experiment
        if self.everything:
            return "every experiment"
        parts = []
        whole = list(self.whole)
        if whole:
            parts.append(f"every {listed(whole, 'and')}")
        partly = [(family, found) for family, found in self.hit.items() if found and family not in whole]
        parts += [f"{len(found)} of {len(self.asked[family])} {family or 'others'}" for family, found in partly[:NAMED]]
        if len(partly) > NAMED:
            parts.append(f"some of {len(partly) - NAMED} other kinds")
        return ", ".join(parts)

    def _where(self, first: Comparison, stage: str) -> str:
        if first.crashed:
            return stage
        blame = next((one.verdict.blame for one in self.group if one.verdict.blame), None)
        spreads = any(departure.downstream for departure in blame.departures) if blame else False
        return f"from {stage} on" if spreads and first.check in OWN_OF_MODELS else f"at {stage}"


def _same(verdict: Verdict, check: str) -> bool:
    """Whether the check, and all below it, found nothing."""
    for cell in verdict.cells:
        if cell.status in ("different", "crashed"):
            return False
        if cell.check == check:
            return cell.status == "same"
    return False


def listed(names: Sequence[str], last: str = "") -> str:
    """Names in a line, the first of them where they are many. last: the word before the last."""
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    if last and len(names) > 1:
        return f"{', '.join(names[:-1])} {last} {names[-1]}"
    return ", ".join(names)


def _open(
    status: ReportStatus, check: str, verdicts: Sequence[Verdict], title: str, known: Sequence[tuple[str, str]]
) -> Cause:
    return Cause(
        title=text.admit(title),
        status=status,
        check=check,
        subjects=[named(verdict) for verdict in verdicts],
        families=list(dict.fromkeys(text.admit(v.family, text.NAME) for v in verdicts if v.family)),
        example=named(verdicts[0]),
        facts=[Fact(name=text.admit(name, text.NAME), text=text.admit(words)) for name, words in known],
    )


def _underpowered(summary: Summary) -> list[Cause]:
    """What too few runs can tell nothing about, check by check."""
    found = []
    for check in summary.checks:
        hit = [
            verdict
            for verdict in summary.experiments
            if any(cell.check == check and cell.status == "underpowered" for cell in verdict.cells)
        ]
        if not hit:
            continue
        said = [
            (verdict.experiment, convergence.sentence(comparison))
            for verdict, comparison in convergence.underpowered(summary)
            if comparison.check == check
        ]
        enough = [cell.needed for verdict in hit for cell in verdict.cells if cell.check == check]
        title = f"{_counted(hit)}, {check}: too few seeds to tell"
        title += f"; --seeds {max(enough)} would do for alike sides" if all(enough) else ""
        cause = _open("underpowered", check, hit, title, said[:ALSO])
        found.append(cause)
    return found


def _partly(summary: Summary) -> list[Cause]:
    """Why experiments are checked in part only, each reason once."""
    by_reason: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in summary.experiments:
        if verdict.status == "partly checked":
            cells = [cell for cell in verdict.cells if cell.status == "not checked"]
            reason = "; ".join(dict.fromkeys(cell.reason for cell in cells if cell.reason))
            by_reason.setdefault((verdict.lacking, reason), []).append(verdict)
    found = []
    for (lacking, reason), verdicts in by_reason.items():
        lowest = next((cell.check for cell in verdicts[0].cells if cell.status == "not checked"), summary.checks[0])
        known = [("not checked", lacking), *([("reason", reason)] if reason else [])]
        found.append(_open("partly checked", lowest, verdicts, f"{_counted(verdicts)}: {lacking}", known))
    return found


def _nothing(summary: Summary) -> list[Cause]:
    """Where all is left out or asks nothing, nothing is wrong and nothing was shown."""
    statuses = {verdict.status for verdict in summary.experiments}
    if not statuses or not statuses <= {"left out", "not applicable"}:
        return []
    reasons = dict.fromkeys(cell.reason for v in summary.experiments for cell in v.cells if cell.reason)
    known = [("reason", reason) for reason in list(reasons)[:ALSO]]
    verdicts = summary.experiments
    title = f"{_counted(verdicts)}: nothing was compared"
    return [_open("partly checked", summary.checks[0], verdicts, title, known)]


def _counted(verdicts: Sequence[Verdict]) -> str:
    return verdicts[0].experiment if len(verdicts) == 1 else f"{len(verdicts)} experiments"
