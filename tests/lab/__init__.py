"""Tests in real JupyterLab."""
