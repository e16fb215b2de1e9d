"""`python -m publisher` is `publisher`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="publisher")
