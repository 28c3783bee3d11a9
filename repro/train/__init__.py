"""The loop, saved state and resume, finetuning."""
