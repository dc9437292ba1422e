"""``python -m ke_gen``, with the current folder last on the path, so that it shadows nothing."""

import sys

if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from ke_gen.cli import main

main()
