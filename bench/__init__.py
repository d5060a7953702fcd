"""Remora beside a bare aiohttp proxy, measured in one run: see `python -m bench --help`."""
