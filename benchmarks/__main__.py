"""`python -m benchmarks` is `scorepath`."""

import sys

from .cli import main

sys.exit(main())
