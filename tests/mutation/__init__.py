"""Small changes to the package's core that a test must notice: `nox -s mutation`."""
