"""Anyone's pair: any model of one framework and any port of it, under the ladder. See docs/check_your_port.md.

from crosscheck import pair

def test_port():
    pair.check("my_pair.py")
"""

from crosscheck.pair.assertion import check

__all__ = ["check"]
