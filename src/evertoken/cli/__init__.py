"""The command line. It uses the library, and no other module imports it."""
