//! Builds the page into the program: each file of `web` as it is, compressed if that makes it smaller, and a digest of its content.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// Bytes of the digest that an entity tag has: enough to tell versions of a file apart.
const DIGEST: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let web = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../web");
    let web = web.canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    collect(&web, &mut files)?;
    // The order of a folder is that of its file system: the program must not depend on it.
    files.sort();
    let mut source = "[\n".to_owned();
    for (number, file) in files.iter().enumerate() {
        let path = text(file.strip_prefix(&web)?)?;
        let content = fs::read(file)?;
        let digest = hex::encode(&Sha256::digest(&content)[..DIGEST]);
        let compressed = gzip(&content)?;
        let gzip = if compressed.len() < content.len() {
            let name = out.join(format!("{number}.gz"));
            fs::write(&name, compressed)?;
            format!("Some(include_bytes!({:?}))", text(&name)?)
        } else {
            "None".to_owned()
        };
        let file = text(file)?;
        writeln!(
            source,
            "    BuiltIn {{ path: {path:?}, digest: {digest:?}, plain: include_bytes!({file:?}), gzip: {gzip} }},"
        )?;
    }
    source.push_str("]\n");
    fs::write(out.join("page.rs"), source)?;
    Ok(())
}

fn text(path: &Path) -> Result<&str, &'static str> {
    path.to_str().ok_or("the page has a name that is no UTF-8")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn gzip(content: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    // Without a time, so that the same files make the same program.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}
