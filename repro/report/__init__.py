"""Verdicts, scores and runs in; Markdown and figures out. Nothing here reads or writes a file."""
