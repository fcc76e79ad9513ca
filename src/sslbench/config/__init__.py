"""What the user asked for: the configuration's types, checks, identity and objects."""
