"""Stands for OpenCV, which ImageApp imports and does not use."""
