//! Promise 6: what there is not enough of is said, and costs one request, never the server.

mod harness;

use harness::limited;

/// The signal of a limit on file sizes ends a program without a word.
#[test]
fn a_limit_on_file_sizes_below_the_arena_is_named_at_start() {
    let root = tempfile::tempdir().unwrap();
    // 512-byte blocks: 8 MiB.
    let output = limited(&["-f 16384"]).arg("serve").arg(root.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["limit on file sizes is 8388608 bytes", "LimitFSIZE=", "--arena"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
