"""Video for penstock: sources of packets, a decoder to arrays, and what makes and shows pictures.

The classes are in the modules of their roles (`source`, `test_picture`, `decoder`, `thumbnail`, `background`,
`picture`); importing this package imports neither av nor numpy.
"""

__all__: list[str] = []
