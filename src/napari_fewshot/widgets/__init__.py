"""Panels: they show the session's state and call its verbs, nothing else."""
