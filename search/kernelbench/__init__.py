"""Problems in KernelBench's file format, judged one by one: ``ke-gen bench kernelbench``.

``checkout`` finds them, ``cpu_task`` does what any machine can, ``device_task`` what needs a GPU,
``runner`` gives both their processes, ``results`` keeps what came of it, ``summary`` tells it.
"""
