"""Files, signals, memory and text, as the operating system and the terminal need them."""
