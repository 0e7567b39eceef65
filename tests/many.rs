//! Many connections at once, fast and slow ones: everyone is served, and nobody waits for another.

mod support;

use support::{Client, Server, assert_same, bytes, request, target};

const SIZES: [usize; 8] = [0, 1, 900, 4096, 12 << 10, 40_000, 64 << 10, 300_000];

#[test]
fn a_thousand_connections_with_mixed_sizes() {
    let root = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..64).map(|number| format!("f{number}")).collect();
    let files: Vec<Vec<u8>> = (0..64).map(|number| bytes(number as u64, SIZES[number % SIZES.len()])).collect();
    for (name, file) in names.iter().zip(&files) {
        std::fs::write(root.path().join(name), file).unwrap();
    }
    let server = Server::start(root.path(), &["--workers", "2", "--arena", "2MiB"]);
    let mut clients: Vec<Client> = (0..1000).map(|_| server.connect()).collect();
    for round in 0..3 {
        // All ask before any reads.
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(request("GET", &target(&names[(number + round) % names.len()]), &[]));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let file = (number + round) % names.len();
            let response = client.response("GET");
            assert_eq!(response.status, 200, "{}", response.text());
            assert_same(&response.body, &files[file], &names[file]);
        }
    }
    assert!(server.physical_bytes() <= 2 << 20);
}

#[test]
fn readers_that_stall_delay_nobody() {
    let root = tempfile::tempdir().unwrap();
    let (large, small) = (bytes(1, 8 << 20), bytes(2, 5000));
    std::fs::write(root.path().join("large"), &large).unwrap();
    std::fs::write(root.path().join("small"), &small).unwrap();
    for mode in support::TRANSMIT {
        let server = Server::start(root.path(), &["--workers", "1", "--arena", "16MiB", "--transmit", mode]);
        let mut stalled: Vec<Client> = (0..200).map(|_| Client::narrow(server.address(), 4096)).collect();
        for client in &mut stalled {
            client.send(request("GET", "/large", &[]));
            assert_eq!(client.head().status, 200);
        }
        // Whoever reads is served while all of them wait.
        let mut quick = server.connect();
        for _ in 0..200 {
            assert_same(&quick.get("/small").body, &small, "small");
        }
        assert_same(&quick.get("/large").body, &large, "large");
        for client in stalled.iter_mut().take(10) {
            assert_same(&client.body(large.len()), &large, "a stalled reader's");
        }
    }
}
