"""Speed, side by side with other libraries: ``python -m benchmarks.run`` from the root of the checkout."""
