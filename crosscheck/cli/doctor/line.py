"""What is said of one thing that was looked at."""

from typing import Literal

import msgspec

LineStatus = Literal["ok", "warn", "fail"]


class DoctorLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing. group: what sort of thing; said: what was found, and what was expected where that is another.

    status: "fail" where no comparison can run, or none can be trusted; "warn" where one may come out otherwise than it
    does elsewhere. fix: what to do about it, one sentence; empty where nothing is to be done.
    """

    group: str
    name: str
    status: LineStatus
    said: str
    fix: str = ""
