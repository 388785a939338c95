"""The parts of the conformance suite, one concern a file."""
