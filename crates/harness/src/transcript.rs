//! Terminal sessions on the book's pages, written by tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, fs};

use crate::{Fault, Lab, Program, Result, build};

/// Set to anything, it makes the tests write the transcripts.
const RECORD: &str = "RECORD";
/// What the book shows in place of the ports that the kernel chose.
const SERVER_PORT: u16 = 9006;
const FIRST_CLIENT_PORT: u16 = 50001;
/// The kernel chooses from here on (ip(7), `ip_local_port_range`).
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// The terminals of one scene, to be kept as `docs/transcripts/SCENE-*.txt`.
///
/// The ports that the kernel chose differ from run to run: the server's becomes
/// 9006, the others 50001, 50002, ... in the order in which they appear. Lower
/// ones were typed, or are an example in a hint, and stay.
pub struct Transcript {
    scene: String,
    lab: Lab,
    ports: BTreeMap<String, u16>,
    pages: Vec<(PathBuf, String)>,
}

impl Transcript {
    /// A scene with a server at `addr`.
    pub fn new(lab: &Lab, scene: &str, addr: SocketAddr) -> Self {
        Self {
            scene: scene.to_owned(),
            lab: lab.clone(),
            ports: [(addr.port().to_string(), SERVER_PORT)].into(),
            pages: Vec::new(),
        }
    }

    /// Adds a terminal in which a person typed `command` and then saw the
    /// screen of `program` as it is now.
    pub fn terminal(&mut self, name: &str, command: &str, program: &Program) {
        self.text(name, &format!("$ {command}\n{}", program.screen()));
    }

    /// Adds a terminal that shows `text`.
    pub fn text(&mut self, name: &str, text: &str) {
        let file = format!("docs/transcripts/{}-{name}.txt", self.scene);
        let text = self.with_fixed_ports(text.trim_end()) + "\n";
        self.pages.push((build::root().join(file), text));
    }

    /// Compares the terminals with the files, on Linux, where they are
    /// recorded; writes them instead if the variable `RECORD` is set.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] with the text if a file is stale or missing.
    pub fn check(self) -> Result {
        for (path, text) in &self.pages {
            if env::var_os(RECORD).is_some() {
                fs::write(path, text)
                    .map_err(|error| self.failure(path, error))?;
            } else if cfg!(target_os = "linux")
                && fs::read_to_string(path).ok().as_ref() != Some(text)
            {
                let fault = Fault::Unexpected(text.clone());
                return Err(self.failure(path, fault));
            }
        }
        Ok(())
    }

    fn failure(
        &self,
        path: &std::path::Path,
        fault: impl Into<Fault>,
    ) -> crate::Failure {
        let wanted = format!(
            "{} is stale; write it again with `{RECORD}=1 cargo test`, and \
             look at the difference",
            path.display()
        );
        self.lab.failure(&self.scene, wanted, fault)
    }

    /// Replaces the port behind each loopback address.
    fn with_fixed_ports(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, ip, after)) = next_address(rest) {
            let end = after
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(after.len());
            let (port, behind) = after.split_at(end);
            let clients = (self.ports.len() - 1) as u16;
            let shown = match port.parse() {
                Ok(example @ ..FIRST_EPHEMERAL_PORT) => example,
                _ => *self
                    .ports
                    .entry(port.to_owned())
                    .or_insert(FIRST_CLIENT_PORT + clients),
            };
            out.push_str(&format!("{before}{ip}{shown}"));
            rest = behind;
        }
        out + rest
    }
}

/// The text before, the address with its colon, and the text from the port on.
fn next_address(text: &str) -> Option<(&str, &str, &str)> {
    ["127.0.0.1:", "[::1]:", "[::]:"]
        .into_iter()
        .filter_map(|ip| text.find(ip).map(|at| (at, at + ip.len())))
        .min()
        .map(|(at, end)| (&text[..at], &text[at..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_port_is_9006_and_the_others_count_from_50001() {
        let server = "127.0.0.1:33456".parse().unwrap();
        let mut scene = Transcript::new(&Lab::new(), "test", server);
        let text = "listening on 127.0.0.1:33456\n127.0.0.1:40007 connected\n\
            [::1]:40008 connected\n127.0.0.1:40007 closed";
        assert_eq!(
            scene.with_fixed_ports(text),
            "listening on 127.0.0.1:9006\n127.0.0.1:50001 connected\n\
             [::1]:50002 connected\n127.0.0.1:50001 closed"
        );
    }

    #[test]
    fn the_port_in_a_hint_stays() {
        let server = "127.0.0.1:33456".parse().unwrap();
        let mut scene = Transcript::new(&Lab::new(), "test", server);
        let text = "such as 127.0.0.1:9007, or 127.0.0.1:0; 127.0.0.1:40007";
        assert_eq!(
            scene.with_fixed_ports(text),
            "such as 127.0.0.1:9007, or 127.0.0.1:0; 127.0.0.1:50001"
        );
    }
}
