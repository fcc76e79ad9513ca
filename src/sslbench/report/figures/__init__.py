"""What the report draws; matplotlib is imported nowhere else."""
