"""As much of cv2 as apps/original.py needs."""
