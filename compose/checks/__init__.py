"""The checks behind compose/check.py, one subject a file."""
