"""Estimators after scikit-learn's contract."""
