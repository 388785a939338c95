"""The command line. It uses the library and is used by nobody."""
