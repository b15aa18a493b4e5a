//! `cargo run -p flows -- draw`.

use std::fs;

fn main() -> anyhow::Result<()> {
    for (path, text) in flows::html::pages()? {
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
