"""
How requests and assertions are signed: secrets, JOSE, DPoP, AWS Signature Version 4.

It imports `_model` alone.
"""
