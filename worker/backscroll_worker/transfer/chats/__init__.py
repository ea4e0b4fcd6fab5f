"""Histories of other programs: one module for each form, and `reading`, which recognizes them."""
