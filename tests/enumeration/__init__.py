"""
Systematic fault enumeration, and stress: the real code in virtual time, and each step of a refresh with each outcome.
"""
