"""``python -m voxnb``."""

import sys

from voxnb.cli import main

sys.exit(main())
