"""``python -m mnemos.cli``, the same as the command ``mnemos``."""

from mnemos.cli import main

if __name__ == "__main__":
    main()
