"""The pool of Python workers beside a Flink task manager: how it starts, judges, watches and ends them."""
