"""As much of PIL as the original text's ImageApp needs."""
