"""Backscroll as the history of other frameworks; each module needs its framework, and no other."""
