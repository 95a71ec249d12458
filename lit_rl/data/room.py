"""Whether an array fits the memory of this machine."""


def refuse_what_does_not_fit(needed: int) -> None:
    """Before allocating ``needed`` bytes: pages are only claimed as they fill, hours later.

    Raises:
        ValueError: less is free.
    """
    available = _available()
    if available is not None and needed > available:
        raise ValueError(
            f"the replay needs {needed / 1e9:.1f} GB and {available / 1e9:.1f} GB of memory are free: "
            f"lower data.capacity or set data.storage to memmap"
        )


def _available() -> int | None:
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
