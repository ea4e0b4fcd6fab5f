"""The benchmarks: how fast the worker and the producers are, beside RQ's own and other queues."""
