"""python -m skilld.cli"""

from skilld.cli import main

__all__ = ()

main()
