"""The findings for people: on a terminal, and as Markdown."""

from collections.abc import Iterator, Mapping

from rich.console import Console

from crosscheck.faults.conclusion import UNDECIDED
from crosscheck.faults.findings import BAD, CONFIDENCE, Findings, Outcome, Rate, Trial
from crosscheck.faults.power_report import POWER_LEGEND, power_rows
from crosscheck.judging.verdict import Status
from crosscheck.report import rows
from crosscheck.report.markup import code, head, inline, row
from crosscheck.report.rows import say

MARKS: Mapping[Status, str] = {
    "same": ".",
    "different": "FIRED",
    "crashed": "CRASH",
    "underpowered": "?",
    "not checked": "not checked",
    "left out": "left out",
    "partly checked": "partly checked",
    "not applicable": "-",
}

LEGEND = "FIRED: a difference was seen; CRASH: no answer came; .: quiet; -: not applicable; blank: not climbed so high"

TERMINAL_LEGEND = (
    "caught: seen where the table of faults says. FIRED: checks that saw a difference; CRASH: checks that got no answer"
)

STYLES: Mapping[Outcome, str] = {"caught": "green", "could not run": "bold magenta"}

SHOWN = 5
"""So many failures of a clean run are listed; faults.json has them all."""


def show(findings: Findings, console: Console) -> None:
    """Print what became of each fault, what is wrong, the rates and the verdict."""
    if findings.trials:
        say(console, TERMINAL_LEGEND)
        say(console, "")
        rows.show(console, [_row_of(findings, trial) for trial in findings.trials])
        say(console, "")
    if power := list(power_rows(findings.trials)):
        say(console, POWER_LEGEND)
        say(console, "")
        header, *entries = power
        for entry in entries:
            known = [f"{name}: {text}" for name, text in zip(header[1:], entry[1:], strict=True) if text]
            say(console, f"  {entry[0]}: {'; '.join(known)}", indent=4)
        say(console, "")
    for text in problems(findings):
        say(console, text, "bold red")
    for text in facts(findings):
        say(console, text)
    say(console, verdict(findings), "bold green" if findings.exit_code == 0 else "bold red")


def _row_of(findings: Findings, trial: Trial) -> rows.Row:
    """A fault's row on a terminal: what became of it, which checks saw it, and who is blamed."""
    fired = [
        f"{mark} in {', '.join(names)}"
        for mark in ("FIRED", "CRASH", "?", "not checked")
        if (
            names := [
                check for check, found in zip(findings.checks, _marks(findings, trial), strict=True) if found == mark
            ]
        )
    ]
    said = [f"on {trial.experiment}", *(fired or ["quiet"]), f"blamed: {_blamed(trial)}"]
    return rows.Row(trial.outcome, STYLES.get(trial.outcome, "bold red"), _name(trial), "; ".join(said))


def concluded(trial: Trial) -> rows.Row:
    """A fault's row while others are still to come: what became of it, and what was seen first."""
    seen = trial.note or "quiet in every check"
    return rows.Row(
        trial.outcome, STYLES.get(trial.outcome, "bold red"), _name(trial), f"on {trial.experiment}: {seen}"
    )


def markdown(findings: Findings) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(findings)) + "\n"


def verdict(findings: Findings) -> str:
    """The whole campaign in a line."""
    trials, alarms = findings.trials, findings.false_alarms()
    counts = [f"{count} {what}" for what in BAD if (count := sum(trial.outcome == what for trial in trials))]
    if wrong := sum(trial.told == "wrong" for trial in trials):
        counts.append(f"{wrong} wrongly explained")
    if false := sum(bool(run.alarms) for run in findings.without_fault):
        counts.append(f"{false} false alarm{'s' if false != 1 else ''}")
    stuck = sum(trial.outcome == "could not run" for trial in trials) + sum(
        bool(run.lost) for run in findings.without_fault
    )
    if stuck:
        counts.append(f"{stuck} could not run")
    total = f"{len(trials)} planted faults, {alarms.of} clean runs"
    if findings.ensembles:
        total += f", {findings.ensemble_alarms().of} pairs of clean ensembles"
    word = {0: "ALL CAUGHT", 1: "NOT TO BE TRUSTED", 3: "COULD NOT RUN"}[findings.exit_code]
    return f"{word}: {total}{''.join(f', {text}' for text in counts)}"


def facts(findings: Findings) -> Iterator[str]:
    """Rates with their bounds, and what it took."""
    for rate in findings.detection():
        yield f"detected, {rate.what}: {_share(rate)}, at least {rate.bound:.1%} with {CONFIDENCE:.0%} confidence"
    known = [trial for trial in findings.trials if trial.blamed]
    if known:
        right = sum(trial.blamed == trial.implementation for trial in known)
        open_still = sum(trial.blamed == UNDECIDED for trial in known)
        yield f"blame fell on the side with the fault: {right} of {len(known)}, on neither: {open_still}"
        staged = [trial for trial in known if trial.blamed_stage]
        checks = {check: [t for t in staged if t.first_check == check] for check in findings.checks}
        counts = [f"{check} {sum(t.blamed_as_stated for t in ts)} of {len(ts)}" for check, ts in checks.items() if ts]
        yield f"and on the tensor that the table states: {', '.join(counts) or 'none of 0'}"
    told = findings.explained()
    if told.of:
        wrong = sum(trial.told == "wrong" for trial in findings.trials)
        longest = max(trial.share for trial in findings.trials)
        yield (
            f"the cause named: {_share(told)} whose variant is in the catalogue; wrongly, of all: {wrong}; an "
            f"explanation took {longest:.0%} of what it explains at most"
        )
    alarms = findings.false_alarms()
    if alarms.of:
        bound = f"at most {alarms.bound:.2%} with {CONFIDENCE:.0%} confidence"
        yield f"false alarms in clean runs: {_share(alarms)}, {bound} (seeds from {findings.seed} on)"
    pairs = findings.ensemble_alarms()
    if pairs.of:
        bound = f"at most {pairs.bound:.0%} with {CONFIDENCE:.0%} confidence"
        yield f"false alarms in pairs of clean ensembles: {_share(pairs)}, {bound}"
    if empty := sorted({run.experiment for run in findings.clean if not run.comparisons}):
        yield f"nothing to compare, hence not counted: {', '.join(empty)}"
    if findings.trials:
        spent = {side: [t.seconds for t in findings.trials if t.implementation == side] for side in _sides(findings)}
        each = ", ".join(f"{sum(s) / len(s):.1f} s in {side}" for side, s in spent.items())
        yield f"{findings.seconds:.0f} s; recording a fault took {each}"
    else:
        yield f"{findings.seconds:.0f} s"


def problems(findings: Findings) -> Iterator[str]:
    """What should not be, a line each."""
    for trial in findings.trials:
        expected = f"expected {trial.expected_check}: {trial.expected_tensor}"
        if trial.outcome == "survived":
            yield f"{_name(trial)} on {trial.experiment}: survived ({trial.what}); {expected}"
        elif trial.outcome != "caught":
            blame = f"; blamed {trial.blamed}" if trial.outcome == "wrong side blamed" else ""
            yield f"{_name(trial)} on {trial.experiment}: {trial.outcome}; {expected}, got {trial.note}{blame}"
        if trial.told == "wrong":
            yield f"{_name(trial)} on {trial.experiment}: wrongly explained: {trial.looks_like} ({trial.what})"
    for run in findings.clean:
        place = f"clean run, {run.experiment}, seed {run.seed}"
        for alarm in run.alarms[:SHOWN]:
            yield f"{place}: false alarm: {alarm}"
        if len(run.alarms) > SHOWN:
            yield f"{place}: and {len(run.alarms) - SHOWN} more, all in faults.json"
        if run.lost:
            yield f"{place}: could not run: {run.lost}"
    for pair in findings.ensembles:
        place = f"clean ensembles, {pair.experiment}, {' / '.join(pair.sides)}"
        yield from (f"{place}: false alarm: {alarm}" for alarm in pair.alarms)
        if pair.lost:
            yield f"{place}: could not run: {pair.lost}"


def _lines(findings: Findings) -> Iterator[str]:
    yield f"# Planted faults\n\n**{inline(verdict(findings))}**\n"
    yield from (f"- {inline(text)}" for text in facts(findings))
    found = list(problems(findings))
    if found:
        yield "\n## Problems\n"
        yield from (f"- {code(text)}" for text in found)
    if findings.trials:
        yield f"\n## Matrix\n\n{LEGEND}.\n"
        yield head("planted fault", "on", *findings.checks, "as stated", "blamed")
        for trial in findings.trials:
            marks = [f"**{m}**" if m in ("FIRED", "CRASH") else m for m in _marks(findings, trial)]
            on = f"{trial.experiment}, {trial.precision}"
            yield row(inline(_name(trial)), inline(on), *marks, inline(_as_stated(trial)), inline(_blamed(trial)))
        if power := list(power_rows(findings.trials)):
            yield f"\n## Detection against the number of seeds\n\n{POWER_LEGEND}.\n\n![curves](faults-power.png)\n"
            yield head(*power[0])
            yield from (row(*cells) for cells in power[1:])
        if findings.ensembles:
            yield "\n## Clean ensembles\n"
            yield head("experiment", "sides", "verdict")
            for pair in findings.ensembles:
                yield row(inline(pair.experiment), inline(" / ".join(pair.sides)), inline(pair.word))
        yield "\n## Faults\n"
        for trial in findings.trials:
            where = f"first {trial.first_check}: {code(trial.tensor)}" if trial.detected else "not seen"
            entries = f" ({', '.join(trial.entries)})" if trial.entries else ""
            like = f" Looks like: {code(trial.looks_like)}." if trial.looks_like else ""
            yield f"- {_name(trial)}{entries}: {trial.what} {where[0].upper()}{where[1:]}.{like}"


def _marks(findings: Findings, trial: Trial) -> list[str]:
    return [MARKS[trial.checks[check]] if check in trial.checks else "" for check in findings.checks]


def _name(trial: Trial) -> str:
    return f"{trial.implementation}/{trial.name}"


def _as_stated(trial: Trial) -> str:
    return "yes" if trial.outcome == "caught" else trial.outcome


def _blamed(trial: Trial) -> str:
    return ", ".join(text for text in (trial.blamed, trial.blamed_stage) if text) or "-"


def _share(rate: Rate) -> str:
    return f"{rate.count} of {rate.of}"


def _sides(findings: Findings) -> list[str]:
    return sorted({trial.implementation for trial in findings.trials})
