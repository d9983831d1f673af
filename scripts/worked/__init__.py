"""The worked examples of docs/worked_examples.md: run by scripts/worked_examples.py, and by the tests."""
