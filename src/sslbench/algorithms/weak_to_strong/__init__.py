"""The parts of FixMatch's family: what its methods do differently, each small, with its state in buffers."""
