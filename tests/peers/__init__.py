"""The tests of the frameworks themselves, run with Backscroll in the place of their own stores.

`source` gets a framework's source distribution, `running` runs the tests in it, and `python -m
tests.peers` does both for the newest versions and writes docs/integrations/results.md.
"""
