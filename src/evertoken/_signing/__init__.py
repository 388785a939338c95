"""
Signing of requests and assertions: secrets, JOSE, DPoP, AWS Signature Version 4.

This package imports only `_model`.
"""
