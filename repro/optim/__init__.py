"""Schedules, vector arithmetic, and the learner: a network with its optimiser and average."""
