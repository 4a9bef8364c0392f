"""As much of PIL as apps/original.py needs."""
