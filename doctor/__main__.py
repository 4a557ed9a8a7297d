"""Entry point of `python -m doctor URL`."""

from .cli import doctor

if __name__ == "__main__":
    doctor()
