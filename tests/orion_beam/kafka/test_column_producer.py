"""The end of a process whose threads still write. `tests/integration/test_write.py` has what producers write."""

import subprocess
import sys

ENDS_WHILE_A_THREAD_WRITES = """
import logging, threading
import pyarrow as pa
from orion_beam.kafka.column_producer import ColumnProducer

logging.disable()
is_waiting = threading.Event()

def write():
    producer = ColumnProducer({"bootstrap.servers": "127.0.0.1:9"}, lambda refusal: None, logging.getLogger())
    producer.produce("topic", pa.array([b"key"]), pa.array([b"value"]))
    while True:
        producer.flush(0.01)
        is_waiting.set()

threading.Thread(target=write, daemon=True).start()
is_waiting.wait()
"""


def test_a_process_ends_in_order_while_a_thread_waits_for_the_broker() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_WHILE_A_THREAD_WRITES], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
