"""Whole sessions from elsewhere into a store: exports, and what the original program left.

`store` is the one road in. Each of the others reads one format.
"""
