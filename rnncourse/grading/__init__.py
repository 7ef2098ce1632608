"""Marking: a class's notebooks, run in jailed children and checked here, into nbgrader's gradebook, a table and feedback."""
