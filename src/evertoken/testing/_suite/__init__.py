"""The parts of the conformance suite. Each file covers one concern."""
