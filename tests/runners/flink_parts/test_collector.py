"""The collector of cycles: what was there before is looked at no more, what comes after still is."""

import gc
import subprocess
import sys

_PROGRAM = """
import gc, weakref
from orion_beam.runners.flink_parts.collector import look_at_less

class Node:
    pass

before = gc.get_threshold()
kept = [Node() for _ in range(1000)]
look_at_less()
assert gc.get_freeze_count() > 1000
assert not any(isinstance(each, Node) for each in gc.get_objects())
assert gc.get_threshold()[0] > before[0]
assert gc.get_threshold()[1:] == before[1:]
node = Node()
node.itself = node
gone = weakref.ref(node)
del node
gc.collect()
assert gone() is None
"""


def test_what_is_loaded_is_not_looked_at_again_and_later_cycles_are_collected() -> None:
    # In a process of its own: this one's collector is to stay as it is.
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True)
    assert gc.get_freeze_count() == 0
