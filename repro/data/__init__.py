"""Data sets: `training` opens what may be trained on, `held_out` what only evaluation may see."""
