"""The step loop and what it needs: schedules, meters, evaluation, checkpoints."""
