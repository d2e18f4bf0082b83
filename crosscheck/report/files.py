"""What a run leaves in its directory."""

from collections.abc import Callable, Mapping
from pathlib import Path

from crosscheck.report import data, junit, markdown
from crosscheck.report.model import RunReport
from crosscheck.report.observed import Observations

NAMES = (data.NAME, "report.md", data.DETAILS, "junit.xml", "report.html")


def contents(
    report: RunReport, rendered: bytes, page: Path | None = None, observed: Observations | None = None
) -> Mapping[str, Callable[[], bytes]]:
    """Each file's content, made when it is asked for. rendered: the report as JSON.

    page: the directory, where a page is wanted, which also shows what else is there. observed: see
    crosscheck.report.observed.
    """

    def html() -> bytes:
        # Imported here: it draws, and few runs want it.
        from crosscheck.report.page.beside import others
        from crosscheck.report.page.render import render

        return render(report, observed, others(page) if page is not None else ())

    made = (
        lambda: rendered,
        lambda: markdown.render(report).encode(),
        lambda: data.details(report),
        lambda: junit.render(report),
    )
    wanted = (*made, html) if page is not None else made
    return dict(zip(NAMES, wanted, strict=False))
