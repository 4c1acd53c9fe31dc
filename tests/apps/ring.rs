// io_uring from Rust, on rustix, whose system calls are inline instructions of its own: a file is copied
// with reads and writes linked in pairs, 32 pairs in flight, and compared. Exits with 3 where there is
// no io_uring.

use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io_uring::*;
use std::env;
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::exit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

const BLOCK: usize = 16384;
const PAIRS: usize = 32;

struct Ring {
    fd: OwnedFd,
    params: io_uring_params,
    sq: *mut u8,
    cq: *mut u8,
    sqes: *mut io_uring_sqe,
    waiting: u32,
}

unsafe fn map(fd: &OwnedFd, bytes: usize, offset: u64) -> *mut u8 {
    let prot = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    let flags = rustix::mm::MapFlags::SHARED | rustix::mm::MapFlags::POPULATE;
    rustix::mm::mmap(null_mut(), bytes, prot, flags, fd, offset).expect("mmap") as *mut u8
}

impl Ring {
    fn new(entries: u32) -> Ring {
        let mut params = io_uring_params::default();
        let fd = match io_uring_setup(entries, &mut params) {
            Ok(fd) => fd,
            Err(error) => {
                println!("no io_uring: {}", error);
                exit(3);
            }
        };
        let fd = unsafe { OwnedFd::from_raw_fd(std::os::unix::io::IntoRawFd::into_raw_fd(fd)) };
        let sq_bytes = params.sq_off.array as usize + params.sq_entries as usize * 4;
        let cq_bytes = params.cq_off.cqes as usize + params.cq_entries as usize * 16;
        unsafe {
            let sq = map(&fd, sq_bytes, IORING_OFF_SQ_RING);
            let cq = map(&fd, cq_bytes, IORING_OFF_CQ_RING);
            let sqes = map(&fd, params.sq_entries as usize * 64, IORING_OFF_SQES) as *mut io_uring_sqe;
            Ring { fd, params, sq, cq, sqes, waiting: 0 }
        }
    }

    unsafe fn word<'a>(memory: *mut u8, at: u32) -> &'a AtomicU32 {
        &*(memory.add(at as usize) as *const AtomicU32)
    }

    fn push(&mut self, opcode: IoringOp, flags: IoringSqeFlags, file: &fs::File, buffer: *mut u8, offset: u64, data: u64) {
        unsafe {
            let tail = Ring::word(self.sq, self.params.sq_off.tail);
            let mask = Ring::word(self.sq, self.params.sq_off.ring_mask).load(Ordering::Relaxed);
            let at = tail.load(Ordering::Relaxed);
            let sqe = &mut *self.sqes.add((at & mask) as usize);
            *sqe = io_uring_sqe::default();
            sqe.opcode = opcode;
            sqe.flags = flags;
            sqe.fd = file.as_raw_fd();
            sqe.off_or_addr2.off = offset;
            sqe.addr_or_splice_off_in.addr = io_uring_ptr::from(buffer as *mut std::ffi::c_void);
            sqe.len = BLOCK as u32;
            sqe.user_data = io_uring_user_data { u64_: data };
            Ring::word(self.sq, self.params.sq_off.array + 4 * (at & mask)).store(at & mask, Ordering::Relaxed);
            tail.store(at.wrapping_add(1), Ordering::Release);
        }
        self.waiting += 1;
    }

    fn enter(&mut self, complete: u32) {
        let done = unsafe {
            io_uring_enter(&self.fd, self.waiting, complete, IoringEnterFlags::GETEVENTS, null_mut(), 0)
        };
        self.waiting -= done.expect("enter");
    }

    fn next(&mut self) -> Option<(u64, i32)> {
        unsafe {
            let head = Ring::word(self.cq, self.params.cq_off.head);
            let tail = Ring::word(self.cq, self.params.cq_off.tail).load(Ordering::Acquire);
            let mask = Ring::word(self.cq, self.params.cq_off.ring_mask).load(Ordering::Relaxed);
            let at = head.load(Ordering::Relaxed);
            if at == tail {
                return None;
            }
            let cqe = self.cq.add(self.params.cq_off.cqes as usize + 16 * (at & mask) as usize);
            let result = (*(cqe as *const u64), *(cqe.add(8) as *const i32));
            head.store(at.wrapping_add(1), Ordering::Release);
            Some(result)
        }
    }
}

fn main() {
    let dir = env::args().nth(1).expect("a directory");
    let blocks = 2000usize;
    let mut ring = Ring::new(2 * PAIRS as u32);
    let data: Vec<u8> = (0..blocks * BLOCK).map(|i| ((i / 7) ^ (i >> 11)) as u8).collect();
    let (from, to) = (format!("{}/from", dir), format!("{}/to", dir));
    fs::write(&from, &data).expect("write");
    let source = fs::File::open(&from).expect("open");
    let target = fs::OpenOptions::new().read(true).write(true).create(true).open(&to).expect("create");
    let mut memory = vec![0u8; PAIRS * BLOCK];
    let mut free: Vec<usize> = (0..PAIRS).collect();
    let (mut next, mut flying) = (0, 0);

    while next < blocks || flying > 0 {
        while next < blocks && !free.is_empty() {
            let pair = free.pop().unwrap();
            let buffer = unsafe { memory.as_mut_ptr().add(pair * BLOCK) };
            let offset = (next * BLOCK) as u64;
            ring.push(IoringOp::Read, IoringSqeFlags::IO_LINK, &source, buffer, offset, 2 * pair as u64);
            ring.push(IoringOp::Write, IoringSqeFlags::empty(), &target, buffer, offset, 2 * pair as u64 + 1);
            next += 1;
            flying += 2;
        }
        ring.enter(1);
        while let Some((which, res)) = ring.next() {
            assert_eq!(res as usize, BLOCK, "request {}", which);
            flying -= 1;
            if which % 2 == 1 {
                free.push(which as usize / 2);
            }
        }
    }
    let mut copy = vec![0u8; data.len()];
    target.read_exact_at(&mut copy, 0).expect("read");
    assert!(copy == data, "the copy is not what was copied");
    println!("{} blocks copied by linked reads and writes", blocks);
}
