//! Replays a fuzz target's corpus without an engine. Included by the crates that have targets, in their tests only.

use std::{fs, path::Path};

/// Gives a target each file of `tests/fuzz/corpus/TARGET`; the last name printed is that of the input that broke it.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = crate_folder
        .ancestors()
        .map(|folder| folder.join("tests/fuzz/corpus").join(target));
    let corpus = folders
        .find(|folder| folder.is_dir())
        .expect("every target has a corpus");
    let mut inputs = 0;
    for entry in fs::read_dir(corpus).expect("readable") {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        run(&fs::read(&path).expect("readable"));
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus of {target} is empty");
}
