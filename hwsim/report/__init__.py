"""Reports: pure functions from a comparison's plain data to text, figures and HTML."""
