"""A bad line between two TUN devices: `python relay.py NAME NAME LOSS DELAY_S` hands packets over late, or not at all.

It makes the two devices, prints a line when they are there, and works until its stdin is closed. Each packet is lost
with the probability LOSS, and delayed by DELAY_S seconds, each way; the order stays.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def tun(name: str) -> int:
    """Create a TUN device; return the file from which its packets are read."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main() -> None:
    """Relay until the test closes stdin."""
    first, second, loss, delay_s = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    chance = random.Random(1)
    ends = [tun(first), tun(second)]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    late: deque[tuple[float, int, bytes]] = deque()
    lost = relayed = 0
    print("ready", flush=True)
    while True:
        wait_s = max(0.0, late[0][0] - time.monotonic()) if late else None
        readable, _, _ = select.select([sys.stdin, *ends], [], [], wait_s)
        if sys.stdin in readable:
            print(f"{relayed} {lost}", flush=True)
            return
        now = time.monotonic()
        for end in readable:
            try:
                packet = os.read(end, 65536)
            except OSError:  # the device is down
                continue
            if chance.random() < loss:
                lost += 1
            else:
                late.append((now + delay_s, other[end], packet))
                relayed += 1
        while late and late[0][0] <= now:
            _, end, packet = late.popleft()
            try:
                os.write(end, packet)
            except OSError:  # its device is down, or full: a line loses that, too
                lost += 1


if __name__ == "__main__":
    main()
