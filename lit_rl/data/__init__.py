"""Experience: collecting, storing and serving it. This package knows no algorithm."""
