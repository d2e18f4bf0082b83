"""What a run leaves in its directory."""

from collections.abc import Callable, Mapping

from crosscheck.report import data, junit, markdown
from crosscheck.report.model import RunReport

NAMES = (data.NAME, "report.md", data.DETAILS, "junit.xml")


def contents(report: RunReport, rendered: bytes) -> Mapping[str, Callable[[], bytes]]:
    """Each file's content, made when it is asked for. rendered: the report as JSON."""
    made = (
        lambda: rendered,
        lambda: markdown.render(report).encode(),
        lambda: data.details(report),
        lambda: junit.render(report),
    )
    return dict(zip(NAMES, made, strict=True))
