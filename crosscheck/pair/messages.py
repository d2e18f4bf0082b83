"""What crosscheck and the process of one side of a pair tell each other, a line of JSON each."""

import msgspec

from crosscheck.pair.codec import Packet
from spec.pair import Leaf, Packed, RecurrentLayer


class SideCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function of `spec.pair.PairSide`, or one of the worker's own (crosscheck.pair.worker), and its arguments."""

    function: str
    arguments: Packet = Packet()


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The side is there. names: what of `given.OPTIONAL` the pair gives. versions: of what computes.

    called: what the port's leaves are called for matching, where the pair renames them. meant: beginnings of names that
    the original must have then.
    """

    kind: str
    implementation: str
    leaves: tuple[Leaf, ...]
    packed: tuple[Packed, ...]
    recurrent: tuple[RecurrentLayer, ...]
    can: list[str]
    names: list[str]
    expected: dict[str, str]
    versions: dict[str, str]
    called: dict[str, str] = {}
    meant: list[str] = []


class SideAnswered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the function returned; of a generator that has ended, `ended`."""

    value: Packet = Packet()
    ended: bool = False


class Raised(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One line for what went wrong. unsupported: this side cannot be asked that."""

    message: str
    exit_code: int
    unsupported: bool = False


Message = Opened | SideAnswered | Raised
