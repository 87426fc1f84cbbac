"""Runs the project: python3 build.py [zip | demo | test | lint | bench | setup | lock].

Standard library only, Python 3.11 or later; older ones are told so in one line, which is why the syntax here is old.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Grisaille needs Python 3.11 or later, and this is Python %d.%d: try python3.11 build.py" % sys.version_info[:2]
    )

from tools.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
