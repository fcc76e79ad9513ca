"""Many runs from one command: what they are, how each is run, and what became of them."""
