//! The root is exchanged at any moment of any request: who asks after that gets nothing of the earlier one.

use super::*;
use std::os::unix::fs::symlink;

/// A client that asks for one file, cached or not.
fn ask(world: &Rc<RefCell<World>>, file: usize) -> RawFd {
    let mut world = world.borrow_mut();
    let fd = world.connect();
    let text = format!("GET /f{file} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
    world.sockets.get_mut(&fd).unwrap().to_server.extend(text.into_bytes());
    fd
}

/// The versions of which a whole response could be; empty while it is not whole.
fn versions(world: &Rc<RefCell<World>>, fd: RawFd, file: usize) -> Vec<u8> {
    let world = world.borrow();
    let read = &world.sockets[&fd].read;
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Vec::new() };
    assert!(read.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&read[..end]));
    (0..2).filter(|&version| read[end + 4..] == content(file, version)).collect()
}

fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    for version in 0..2 {
        let root = dir.path().join(format!("v{version}"));
        std::fs::create_dir(&root).unwrap();
        (0..SIZES.len()).for_each(|file| write_version(&root, file, version));
    }
    let current = dir.path().join("current");
    symlink("v0", &current).unwrap();
    let mut options = options(&current, Transmit::Auto, 1 << 20, if seed.is_multiple_of(2) { "0s" } else { "1h" });
    // Nothing else is a reason to look at the disk again.
    options.revalidate = Duration::from_secs(24 * 60 * 60);
    let mut dice = Dice::new(seed ^ 0x0D1E);
    NOW.set(0);
    let (mut worker, world) = simulate(seed, options);
    worker.start().unwrap();
    // Of those that are read in pieces and those that are not; the largest take long to simulate.
    let file = 2 + dice.below(SIZES.len() - 4);
    let mut completions = Vec::new();
    let mut turn = |worker: &mut Worker<Simulated>| worker.turn(&mut completions).unwrap();
    let first: Vec<RawFd> = (0..1 + dice.below(3)).map(|_| ask(&world, file)).collect();
    for _ in 0..dice.below(60) {
        turn(&mut worker);
    }
    symlink("v1", dir.path().join("next")).unwrap();
    std::fs::rename(dir.path().join("next"), &current).unwrap();
    NOW.set(world.borrow().clock);
    assert!(matches!(worker.io.shared.origin.directory().unwrap().follow(), crate::origin::Followed::Exchanged));
    let second = [ask(&world, file), ask(&world, file)];
    for _ in 0..2_000_000 {
        turn(&mut worker);
        if first.iter().chain(&second).all(|fd| world.borrow().sockets[fd].is_over()) {
            break;
        }
    }
    for fd in first {
        assert_eq!(versions(&world, fd, file).len(), 1, "seed {seed}: f{file} is whole, of either root");
    }
    for fd in second {
        assert_eq!(versions(&world, fd, file), [1], "seed {seed}: f{file} is of the new root");
    }
}

#[test]
fn who_asks_after_the_exchange_gets_the_new_root() {
    (0..40).for_each(run);
}
