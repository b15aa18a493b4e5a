//! Builds the book and says where it is: `cargo run -p book`.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: book [--open] [ROOT]

Builds the book with the mdBook that Cargo.lock pins.

  --open   show the book in a browser
  ROOT     the folder that holds book.toml (this repository, if not given)";

fn main() -> Result<()> {
    let Some(request) = parse(env::args_os().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };

    let built = book::build(&request.root)?;
    for warning in &built.warnings {
        eprintln!("warning: {warning}");
    }

    let index = std::path::absolute(built.destination.join("index.html"))?;
    println!("The book is built. Open this address in a browser:");
    println!("{}", file_url(&index));
    if !request.open {
        println!("(`cargo run -p book -- --open` does so for you.)");
    } else if let Err(error) = opener::open_browser(&index) {
        bail!("no browser could be started ({error}): open it by hand");
    }
    Ok(())
}

struct Request {
    root: PathBuf,
    open: bool,
}

/// What was asked for, or `None` for the usage.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Request>> {
    let mut open = false;
    let mut root = None;
    for argument in arguments {
        match argument.to_str() {
            Some("-h" | "--help") => return Ok(None),
            Some("--open") => open = true,
            Some(option) if option.starts_with('-') => {
                bail!("unknown option {option}\n\n{USAGE}")
            }
            _ if root.is_some() => bail!("one ROOT at most\n\n{USAGE}"),
            _ => root = Some(PathBuf::from(argument)),
        }
    }
    let root = root.unwrap_or_else(|| harness::root().to_owned());
    Ok(Some(Request { root, open }))
}

/// The `file:` URL of an absolute path (RFC 8089): a space in a folder's name
/// would end the link that a terminal makes of it.
fn file_url(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\\', "/");
    let mut url = String::from("file://");
    // A Windows path starts with its drive: file:///C:/book/index.html
    if !path.starts_with('/') {
        url.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'/' | b':' | b'-' | b'.' | b'_' | b'~' => url.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => url.push(byte.into()),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_url_escapes_what_would_end_it() {
        let url = file_url(Path::new("/home/é/my book/index.html"));
        assert_eq!(url, "file:///home/%C3%A9/my%20book/index.html");
    }

    #[test]
    fn a_windows_path_becomes_a_file_url() {
        let url = file_url(Path::new("C:\\book\\index.html"));
        assert_eq!(url, "file:///C:/book/index.html");
    }
}
