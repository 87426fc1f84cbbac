"""The backend's commands for people, one a file: `add_to` says what is understood, `run` does it.

They import what they need when they run: printing the help waits for nothing.
"""
