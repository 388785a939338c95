"""
Values and rules: tokens, errors, events, policies, the state of a key and its transitions.

Everything here is pure: no event loop, no clock, no I/O. These modules import no other package of evertoken.
"""
