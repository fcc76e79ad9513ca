"""From numbers to text."""
