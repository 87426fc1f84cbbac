"""Grisaille's inference backend: a process of its own. Importing it loads neither torch nor numpy."""

__version__ = "0.1.0"
