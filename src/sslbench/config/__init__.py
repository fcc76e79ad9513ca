"""The configuration: its types, checks and identity, and the objects that it describes."""
