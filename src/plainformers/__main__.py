"""`python -m plainformers` is the command `plainformers`."""

from .cli import main

raise SystemExit(main())
