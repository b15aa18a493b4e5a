//! x
use std::path::PathBuf;
/// x
pub fn pages() -> anyhow::Result<Vec<(PathBuf, String)>> {
    Ok(vec![])
}
