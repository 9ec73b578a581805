"""`python -m tui` is `safelight`."""

from tui.cli import main

if __name__ == "__main__":
    main()
