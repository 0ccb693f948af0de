"""Measures the operators of a mixture-of-experts layer; docs/measuring.md says how it is used."""
