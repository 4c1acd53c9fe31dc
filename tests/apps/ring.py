"""io_uring from Python: ctypes, mmap and nothing else.

Writes a file in 4 KiB blocks at depth 64, reads it back in another order into one registered
buffer, compares, and waits for a timeout and a pipe. Prints what it did; exits with 3 where there is no io_uring.
"""
import ctypes
import errno
import mmap
import os
import random
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
SETUP, ENTER, REGISTER = 425, 426, 427
OP_READV, OP_READ_FIXED, OP_POLL_ADD, OP_TIMEOUT, OP_READ, OP_WRITE = 1, 4, 6, 11, 22, 23
BLOCK, DEPTH, BLOCKS = 4096, 64, 2048


def call(nr, *args):
    ret = libc.syscall(ctypes.c_long(nr), *(ctypes.c_ulong(a & (2**64 - 1)) for a in args))
    if ret < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ret


class Ring:
    def __init__(self, entries):
        params = ctypes.create_string_buffer(120)
        self.fd = call(SETUP, entries, ctypes.addressof(params))
        p = struct.unpack("<30I", params.raw)
        self.entries, cq_entries = p[0], p[1]
        sq, cq = p[10:20], p[20:30]
        self.sq_head, self.sq_tail, self.sq_mask, self.sq_array = sq[0], sq[1], sq[2], sq[6]
        self.cq_head, self.cq_tail, self.cq_mask, self.cqes = cq[0], cq[1], cq[2], cq[5]
        flags, prot = mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ | mmap.PROT_WRITE
        self.sq = mmap.mmap(self.fd, self.sq_array + 4 * self.entries, flags, prot, offset=0)
        self.cq = mmap.mmap(self.fd, self.cqes + 16 * cq_entries, flags, prot, offset=0x8000000)
        self.sqes = mmap.mmap(self.fd, 64 * self.entries, flags, prot, offset=0x10000000)
        self.pending = 0

    @staticmethod
    def word(memory, at):
        return struct.unpack_from("<I", memory, at)[0]

    def prepare(self, opcode, fd, addr, length, offset, user_data, flags=0, buf_index=0):
        tail = self.word(self.sq, self.sq_tail)
        index = tail & self.word(self.sq, self.sq_mask)
        struct.pack_into("<BBHiQQIIQH22x", self.sqes, index * 64, opcode, 0, 0, fd, offset & (2**64 - 1), addr, length,
                         flags, user_data, buf_index)
        struct.pack_into("<I", self.sq, self.sq_array + 4 * index, index)
        struct.pack_into("<I", self.sq, self.sq_tail, (tail + 1) & 0xFFFFFFFF)
        self.pending += 1

    def enter(self, wait):
        done = call(ENTER, self.fd, self.pending, wait, 1 if wait else 0, 0, 0)
        self.pending -= done

    def reap(self):
        head = self.word(self.cq, self.cq_head)
        while head != self.word(self.cq, self.cq_tail):
            at = self.cqes + 16 * (head & self.word(self.cq, self.cq_mask))
            user_data, res, _flags = struct.unpack_from("<QiI", self.cq, at)
            head = (head + 1) & 0xFFFFFFFF
            struct.pack_into("<I", self.cq, self.cq_head, head)
            yield user_data, res


def each(ring, jobs, prepare):
    """Keeps DEPTH of the jobs in flight; returns how many completed with a whole block."""
    whole = flying = 0
    jobs = list(jobs)
    while jobs or flying:
        while jobs and flying < DEPTH:
            prepare(jobs.pop())
            flying += 1
        ring.enter(1)
        for user_data, res in ring.reap():
            if res != BLOCK:
                sys.exit(f"block {user_data}: {res}")
            flying -= 1
            whole += 1
    return whole


def main(path):
    try:
        ring = Ring(DEPTH)
    except OSError as error:
        print(f"no io_uring: {error}")
        return 3
    data = bytearray(random.Random(1).randbytes(BLOCK * BLOCKS))
    source = (ctypes.c_char * len(data)).from_buffer(data)
    target = ctypes.create_string_buffer(len(data))
    order = random.Random(2)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    blocks = order.sample(range(BLOCKS), BLOCKS)
    wrote = each(ring, blocks, lambda i: ring.prepare(OP_WRITE, fd, ctypes.addressof(source) + i * BLOCK, BLOCK,
                                                      i * BLOCK, i))
    with open(path, "rb") as plain:
        if plain.read() != bytes(data):
            sys.exit("the file does not have what was written")

    iovec = struct.pack("<QQ", ctypes.addressof(target), len(data))
    registered = ctypes.create_string_buffer(iovec)
    call(REGISTER, ring.fd, 0, ctypes.addressof(registered), 1)
    blocks = order.sample(range(BLOCKS), BLOCKS)
    got = each(ring, blocks, lambda i: ring.prepare(OP_READ_FIXED, fd, ctypes.addressof(target) + i * BLOCK, BLOCK,
                                                    i * BLOCK, i))
    if target.raw != bytes(data):
        sys.exit("what was read is not what was written")

    timespec = ctypes.create_string_buffer(struct.pack("<qq", 0, 20000000))
    ring.prepare(OP_TIMEOUT, -1, ctypes.addressof(timespec), 1, 0, 1)
    reader, writer = os.pipe()
    ring.prepare(OP_POLL_ADD, reader, 0, 0, 0, 2, flags=1)
    ring.enter(1)
    if list(ring.reap()) != [(1, -errno.ETIME)]:
        sys.exit("the timeout")
    os.write(writer, b"x")
    ring.enter(1)
    if list(ring.reap()) != [(2, 1)]:
        sys.exit("the poll")
    print(f"{wrote} blocks written, {got} read, a timeout and a poll")
    return 0


sys.exit(main(sys.argv[1]))
