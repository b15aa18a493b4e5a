//! The book, held to its word.
//!
//! mdBook is silent about a missing anchor, an unclosed one, a dead link and
//! a page that nobody lists. These tests are not. What an author of a page
//! needs to know:
//!
//! **Code and transcripts** are included, never typed:
//! `{{#include ../crates/01-single-client/src/main.rs:accept}}` shows the
//! lines between `// ANCHOR: accept` and `// ANCHOR_END: accept`. An anchor is
//! named after an identifier or an idea, never `here`, is used by some page,
//! and a lesson's file has at most four. Line ranges are refused, for they
//! move. A recording is a file in `docs/transcripts/`; a figure, one in
//! `docs/flows/`, is drawn by `crates/flows` (see `tests/flows.rs`).
//!
//! **Fences** in a lesson's chapter: `rust`, `text` and `console` hold
//! includes only; `sh` holds commands to type, one a line, without a prompt;
//! `python` holds the Python twin. There are no others.
//!
//! **A claim names its test** in a code span, `FILE::TEST`:
//! `01-single-client::second_client_waits` is `fn second_client_waits` in
//! `tests/01-single-client.rs`, and `servers::no_byte_is_lost` is one that all
//! servers have to pass, in `tests/servers.rs`; a unit test is
//! `PACKAGE/MODULE::TEST`, so that `04-thread-pool/pool::drop_joins` is in
//! `crates/04-thread-pool/src/pool.rs` (PACKAGE is the folder's name, MODULE
//! may be a path: `bin/client`).
//!
//! **Links** go from page to page (`threads.md#a-heading`) or out to the web.
//! A link to a file outside `docs/` would be dead in the built book: write its
//! path as code.
//!
//! **A lesson's chapter**, `docs/NN-stem.md`, has one title and the sections
//! of [`SECTIONS`], in that order. What does not fit becomes a `###` section.
//! `Check yourself` has three questions, each with its answer in `<details>`
//! (with a `<summary>`).
//!
//! **Prose** is plain: see [`prose_problems`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    sync::LazyLock,
};

use anyhow::Result;
use harness::root;
use mdbook_markdown::{
    MarkdownOptions, new_cmark_parser,
    pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Tag, TagEnd},
};
use predicates::prelude::*;
use regex::Regex;
use tempfile::TempDir;

/// The level-2 headings of a lesson's chapter, in order. Lesson 01 has no
/// lesson before it, hence no `What changed`.
const SECTIONS: [&str; 11] = [
    "The question",
    "Predict",
    "Run it",
    "Why",
    "The flow, one call at a time",
    "What changed",
    "Experiment: break it",
    "Limits",
    "Windows and macOS",
    "Check yourself",
    "Exercise",
];

const MAX_ANCHORS: usize = 4;

// ---------------------------------------------------------------------------
// The book builds

#[test]
fn the_book_builds_without_a_warning() {
    assert_none(SITE.warnings.clone());
    assert!(SITE.files.contains_key("index.html"));
}

#[test]
fn a_book_without_book_toml_is_refused() -> Result<()> {
    let empty = TempDir::new()?;
    let error = book::build(empty.path()).expect_err("there is no book");
    assert!(error.to_string().contains("no book.toml"), "{error}");
    Ok(())
}

#[test]
fn search_knows_every_page() {
    let index = SITE
        .files
        .iter()
        .find(|(path, _)| path.starts_with("searchindex"))
        .expect("no search index: keep [output.html.search] in book.toml");
    let missing = pages().filter(|page| !page.is_summary()).filter(|page| {
        let url = page.html().expect("a page of the book");
        !index.1.text.contains(&format!("{url}#"))
    });
    assert_none(missing.map(|page| {
        format!("{}:1: search does not find this page", page.path)
    }));
}

#[test]
fn the_program_says_where_the_book_is() -> Result<()> {
    let folder = write_book("# Page\n")?;
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("book"))
        .arg(folder.path())
        .current_dir(std::env::temp_dir())
        .assert()
        .success()
        .stdout(predicate::str::contains("\nfile:///"))
        .stdout(predicate::str::contains("/target/book/index.html\n"));
    Ok(())
}

#[test]
fn the_program_passes_on_what_mdbook_warns_about() -> Result<()> {
    let folder = write_book("# Page\n\n{{#include nowhere.rs}}\n")?;
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("book"))
        .arg(folder.path())
        .assert()
        .success()
        .stderr(predicate::str::contains("warning: "))
        .stderr(predicate::str::contains("nowhere.rs"));
    Ok(())
}

#[test]
fn the_program_refuses_bad_arguments_with_the_usage() {
    for arguments in [&["--opne"][..], &["one", "two"]] {
        assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("book"))
            .args(arguments)
            .assert()
            .code(1)
            .stderr(predicate::str::contains("usage: book"));
    }
}

// ---------------------------------------------------------------------------
// Includes and anchors

#[test]
fn every_include_resolves() {
    assert_none(
        pages().flat_map(|page| include_problems(&page.path, &page.text, read)),
    );
}

#[test]
fn every_anchor_is_sound_and_used() {
    let used: BTreeSet<_> = includes_of_the_book()
        .filter_map(|include| Some((include.file?, include.anchor?)))
        .collect();
    let sources = ["crates", "tests", "docs/transcripts"]
        .into_iter()
        .flat_map(files_below)
        // This file holds bad anchors to try the rules on.
        .filter(|path| path != "tests/book.rs");
    assert_none(sources.flat_map(|path| {
        let text = read(&path).unwrap_or_default();
        anchor_problems(&path, &text, |name| {
            used.contains(&(path.clone(), name.to_owned()))
        })
    }));
}

#[test]
fn every_transcript_is_included() {
    let used: BTreeSet<_> =
        includes_of_the_book().filter_map(|i| i.file).collect();
    let unused = files_below("docs/transcripts")
        .into_iter()
        .filter(|path| path.ends_with(".txt") && !used.contains(path));
    assert_none(unused.map(|path| {
        format!("{path}:1: no page includes this transcript: show or delete it")
    }));
}

/// A directive of mdBook in a page, such as `{{#include FILE:ANCHOR}}`.
struct Include {
    line: usize,
    kind: String,
    /// The file, from the root of the repository, if it is inside it.
    file: Option<String>,
    anchor: Option<String>,
    by_line: bool,
}

fn includes(page: &str, text: &str) -> Vec<Include> {
    // mdBook's own pattern demands more and leaves alone what does not fit:
    // a mistyped directive would be printed as it stands.
    static DIRECTIVE: LazyLock<Regex> =
        LazyLock::new(|| regex(r"(\\?)\{\{\s*#(\w*)\s*([^}\s]*)[^}]*\}\}"));
    DIRECTIVE
        .captures_iter(text)
        .filter(|directive| directive[1].is_empty())
        .map(|directive| {
            let target = &directive[3];
            let (file, selector) = match target.split_once(':') {
                Some((file, selector)) => (file, Some(selector)),
                None => (target, None),
            };
            let by_line = selector.is_some_and(|selector| {
                let start = selector.split(':').next().unwrap_or_default();
                start.is_empty() || start.parse::<usize>().is_ok()
            });
            Include {
                line: line_of(text, directive.get_match().start()),
                kind: directive[2].to_owned(),
                file: resolve(page, file),
                anchor: selector.map(str::to_owned),
                by_line,
            }
        })
        .collect()
}

fn include_problems(
    page: &str,
    text: &str,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let problem = |include: &Include| {
        match include.kind.as_str() {
            "include" | "rustdoc_include" => {}
            "title" => return None,
            "playground" | "playpen" => {
                return Some(
                    "a socket program cannot run in the playground: use \
                     rustdoc_include"
                        .to_owned(),
                );
            }
            other => {
                return Some(format!(
                    "mdBook knows no directive `{other}`: write \
                     {{{{#include FILE:ANCHOR}}}} (or \\{{{{ to show it)"
                ));
            }
        }
        if include.by_line {
            return Some(
                "line ranges move: put an ANCHOR in the source and name it"
                    .to_owned(),
            );
        }
        let Some(file) = &include.file else {
            return Some("the file is outside the repository".to_owned());
        };
        let Some(source) = read(file) else {
            return Some(format!("cannot read {file}: mend the path"));
        };
        match &include.anchor {
            Some(name) => anchor_fault(&source, name)
                .map(|(_, fault)| format!("{file}: {fault}")),
            None if !anchor_marks(&source).is_empty() => Some(format!(
                "{file} has anchors, which would be shown: include one"
            )),
            None => None,
        }
    };
    includes(page, text)
        .iter()
        .filter_map(|include| {
            problem(include).map(|what| at(page, include.line, &what))
        })
        .collect()
}

/// The line, whether it closes, and the name of each anchor mark.
fn anchor_marks(text: &str) -> Vec<(usize, bool, &str)> {
    static MARK: LazyLock<Regex> =
        LazyLock::new(|| regex(r"ANCHOR(_END)?:\s*([\w-]+)"));
    let marks = text.lines().zip(1..).filter_map(|(text, line)| {
        let mark = MARK.captures(text)?;
        Some((line, mark.get(1).is_some(), mark.get(2)?.as_str()))
    });
    marks.collect()
}

/// The line and the reason for which an anchor cannot be included.
fn anchor_fault(source: &str, name: &str) -> Option<(usize, String)> {
    let marks = anchor_marks(source);
    let lines = |closes: bool| -> Vec<usize> {
        let these = marks.iter().filter(|m| m.1 == closes && m.2 == name);
        these.map(|mark| mark.0).collect()
    };
    match (&lines(false)[..], &lines(true)[..]) {
        ([start], [end]) if end > start => None,
        ([], []) => Some((1, format!("it has no anchor `{name}`: add it"))),
        ([], [end, ..]) => {
            Some((*end, format!("anchor `{name}` is closed but never opened")))
        }
        ([_, again, ..], _) => {
            Some((*again, format!("anchor `{name}` appears twice: rename one")))
        }
        ([start], []) => Some((
            *start,
            format!("anchor `{name}` is not closed: add its ANCHOR_END"),
        )),
        ([start], _) => Some((
            *start,
            format!("anchor `{name}` must be closed once, below this line"),
        )),
    }
}

fn anchor_problems(
    path: &str,
    source: &str,
    used: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut lines = BTreeMap::new();
    for (line, _, name) in anchor_marks(source) {
        lines.entry(name).or_insert(line);
    }
    let mut problems = Vec::new();
    for (&name, &line) in &lines {
        if let Some((line, fault)) = anchor_fault(source, name) {
            problems.push(at(path, line, &fault));
        } else if name == "here" {
            problems.push(at(
                path,
                line,
                "`here` says nothing: name the anchor after what it shows",
            ));
        } else if !used(name) {
            let what = format!("no page uses anchor `{name}`: delete it");
            problems.push(at(path, line, &what));
        }
    }
    let is_lesson = path
        .strip_prefix("crates/")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_lesson && lines.len() > MAX_ANCHORS {
        let what = format!(
            "{} anchors hide the code: a lesson's file has at most \
             {MAX_ANCHORS}",
            lines.len()
        );
        problems.push(at(path, 1, &what));
    }
    problems
}

#[test]
fn rule_an_include_that_does_not_resolve_is_found() {
    let source = "// ANCHOR: open\n// ANCHOR: twice\n// ANCHOR_END: twice\n\
        // ANCHOR: twice\n// ANCHOR: good\nlet x;\n// ANCHOR_END: good\n";
    let problem = |directive: &str| {
        let page = format!("# Page\n\n{directive}\n");
        let problems = include_problems("docs/page.md", &page, |path| {
            (path == "crates/a.rs").then(|| source.to_owned())
        });
        problems.join("\n")
    };
    assert_eq!(problem("{{#include ../crates/a.rs:good}}"), "");
    assert_eq!(problem("{{#rustdoc_include ../crates/a.rs:good}}"), "");
    assert_eq!(problem(r"\{{#include ../crates/none.rs}}"), "");
    for (directive, fault) in [
        (
            "{{#include ../crates/none.rs:good}}",
            "cannot read crates/none.rs",
        ),
        ("{{#include ../../outside.rs}}", "outside the repository"),
        ("{{#include ../crates/a.rs:missing}}", "no anchor `missing`"),
        ("{{#include ../crates/a.rs:open}}", "`open` is not closed"),
        ("{{#include ../crates/a.rs:twice}}", "`twice` appears twice"),
        (
            "{{#include ../crates/a.rs}}",
            "anchors, which would be shown",
        ),
        ("{{#include ../crates/a.rs:2:3}}", "line ranges move"),
        ("{{#include ../crates/a.rs::3}}", "line ranges move"),
        ("{{#include ../crates/a.rs:2}}", "line ranges move"),
        (
            "{{#playground ../crates/a.rs}}",
            "cannot run in the playground",
        ),
        ("{{#inlcude ../crates/a.rs:good}}", "no directive `inlcude`"),
        ("{{# include ../crates/a.rs:good}}", "no directive ``"),
    ] {
        let found = problem(directive);
        assert!(found.contains(fault), "{directive}: {found}");
        assert!(found.starts_with("docs/page.md:3: "), "{found}");
    }
}

#[test]
fn rule_a_bad_anchor_is_found() {
    let problem = |source: &str| {
        let path = "crates/01-a/src/main.rs";
        anchor_problems(path, source, |name| name != "unused").join("\n")
    };
    let anchor = |name| format!("// ANCHOR: {name}\n// ANCHOR_END: {name}\n");
    assert_eq!(problem(&anchor("accept")), "");
    assert!(problem(&anchor("here")).contains("says nothing"));
    assert!(problem(&anchor("unused")).contains("no page uses"));
    assert!(problem("\n// ANCHOR: a").contains("main.rs:2: anchor `a` is not"));
    assert!(problem("// ANCHOR_END: a").contains("never opened"));
    let backwards = "// ANCHOR_END: a\n// ANCHOR: a";
    assert!(problem(backwards).contains("closed once, below"));
    let twice = anchor("a") + &anchor("a");
    assert!(problem(&twice).contains("main.rs:3: anchor `a` appears twice"));
    let five = ["a", "b", "c", "d", "e"].map(anchor).concat();
    assert!(problem(&five).contains("5 anchors"));
}

// ---------------------------------------------------------------------------
// Pages and links

#[test]
fn every_page_is_in_the_summary_and_every_entry_exists() {
    let paths: BTreeSet<_> = pages().map(|page| page.path.clone()).collect();
    let summary = read("docs/SUMMARY.md").unwrap_or_default();
    assert_none(summary_problems(&summary, &paths));
}

#[test]
fn every_link_and_fragment_exists() {
    assert_none(link_problems(&SITE.files));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    assert_none(
        SITE.files
            .iter()
            .flat_map(|(path, file)| load_problems(path, file)),
    );
    let own = files_below("docs").into_iter().filter(|path| {
        [".css", ".js", ".svg"]
            .iter()
            .any(|end| path.ends_with(end))
    });
    assert_none(own.flat_map(|path| {
        asset_problems(&path, &read(&path).unwrap_or_default())
    }));
}

fn summary_problems(summary: &str, pages: &BTreeSet<String>) -> Vec<String> {
    let mut listed = BTreeSet::from(["docs/SUMMARY.md".to_owned()]);
    let mut problems = Vec::new();
    for (event, range) in markdown(summary) {
        let Event::Start(Tag::Link { dest_url, .. }) = event else {
            continue;
        };
        match resolve("docs/SUMMARY.md", &dest_url) {
            Some(path) if pages.contains(&path) => {
                listed.insert(path);
            }
            _ => problems.push(at(
                "docs/SUMMARY.md",
                line_of(summary, range.start),
                &format!("there is no page `{dest_url}`: write it"),
            )),
        }
    }
    let unlisted = pages.difference(&listed).map(|path| {
        at(path, 1, "docs/SUMMARY.md does not list this page: add it")
    });
    problems.extend(unlisted);
    problems
}

/// A file of the built book.
#[derive(Default)]
struct SiteFile {
    text: String,
    ids: BTreeSet<String>,
    references: Vec<Reference>,
    runs_code: bool,
}

/// An address in a page, and whether the browser loads it unasked.
struct Reference {
    url: String,
    loads: bool,
}

/// The built book, by path from its root.
type SiteFiles = BTreeMap<String, SiteFile>;

struct Site {
    files: SiteFiles,
    /// What mdBook complained about.
    warnings: Vec<String>,
}

impl SiteFile {
    fn parse(path: &str, text: String) -> SiteFile {
        let mut file = SiteFile::default();
        if path.ends_with(".html") {
            file.read_tags(&text);
        }
        file.text = text;
        file
    }

    fn read_tags(&mut self, text: &str) {
        static NO_MARKUP: LazyLock<Regex> = LazyLock::new(|| {
            regex(
                r"(?xs)<!--.*?--> | (<script\b[^>]*>).*?</script> |
                <style\b.*?</style>",
            )
        });
        static TAG: LazyLock<Regex> =
            LazyLock::new(|| regex(r"<([a-z]\w*)\s([^>]*)>"));
        static ATTRIBUTE: LazyLock<Regex> =
            LazyLock::new(|| regex(r#"([\w:-]+)=("[^"]*"|'[^']*'|[^\s"'>]+)"#));
        for tag in TAG.captures_iter(&NO_MARKUP.replace_all(text, "$1")) {
            for attribute in ATTRIBUTE.captures_iter(&tag[2]) {
                let value = attribute[2].trim_matches(['"', '\'']).to_owned();
                match &attribute[1] {
                    "id" => {
                        self.ids.insert(value);
                    }
                    "href" | "src" | "xlink:href" | "poster" | "data" => {
                        let loads = !matches!(&tag[1], "a" | "area");
                        self.references.push(Reference { url: value, loads });
                    }
                    "class" => {
                        self.runs_code |=
                            value.split_whitespace().any(|c| c == "playground");
                    }
                    _ => {}
                }
            }
        }
    }
}

fn is_external(url: &str) -> bool {
    static SCHEME: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^(//|[A-Za-z][A-Za-z0-9+.-]*:)"));
    SCHEME.is_match(url)
}

/// The dead links of a built book.
fn link_problems(site: &SiteFiles) -> Vec<String> {
    // print.html is the text of all pages once more, with ids of its own.
    let pages = site.iter().filter(|(path, _)| *path != "print.html");
    // mdBook writes an image twice, once to be seen large.
    let mut problems = BTreeSet::new();
    for (page, file) in pages {
        for Reference { url, .. } in &file.references {
            problems.extend(
                link_fault(site, page, url).map(|fault| {
                    format!("{page} (built): link `{url}`: {fault}")
                }),
            );
        }
    }
    problems.into_iter().collect()
}

fn link_fault(site: &SiteFiles, page: &str, url: &str) -> Option<String> {
    if is_external(url) {
        return None;
    }
    let (address, fragment) = match url.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (url, None),
    };
    let address = address.split('?').next().unwrap_or_default();
    let target = match address {
        "" => page.to_owned(),
        _ if address.starts_with('/') => {
            return Some("start it from this page, not with `/`".to_owned());
        }
        _ => match resolve(page, address) {
            Some(path) => path,
            None => {
                return Some(
                    "it leads out of docs/, where the built book has nothing: \
                     write the path as code"
                        .to_owned(),
                );
            }
        },
    };
    let Some(file) = site.get(&target) else {
        return Some("there is no such page or file: mend the link".to_owned());
    };
    let fragment = fragment.filter(|f| !f.is_empty())?;
    (!file.ids.contains(fragment)).then(|| {
        format!("no heading or id `{fragment}` in {target}: mend the fragment")
    })
}

fn load_problems(path: &str, file: &SiteFile) -> Vec<String> {
    let loaded = file.references.iter().filter(|reference| {
        reference.loads
            && is_external(&reference.url)
            && !reference.url.starts_with("data:")
    });
    let mut problems: Vec<_> = loaded
        .map(|reference| {
            let url = &reference.url;
            format!("{path} (built): loads {url}: put the file into docs/")
        })
        .collect();
    if file.runs_code {
        problems.push(format!(
            "{path} (built): a listing that runs in the playground asks \
             play.rust-lang.org: keep `runnable = false` in book.toml"
        ));
    }
    problems
}

fn asset_problems(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| {
        // The name of a namespace looks like an address; nobody loads it.
        let line = line.replace("http://www.w3.org/", "");
        line.contains("http://") || line.contains("https://")
    });
    lines
        .map(|(_, line)| {
            at(path, line, "names another server: put the file into docs/")
        })
        .collect()
}

#[test]
fn rule_a_page_and_its_entry_need_each_other() {
    let pages = ["docs/SUMMARY.md", "docs/a.md", "docs/b.md"];
    let pages = pages.map(str::to_owned).into();
    let problems = |summary| summary_problems(summary, &pages).join("\n");
    assert_eq!(problems("# Summary\n\n- [A](a.md)\n- [B](./b.md)\n"), "");
    assert!(problems("- [A](a.md)\n").starts_with("docs/b.md:1: "));
    let missing = problems("- [A](a.md)\n- [B](b.md)\n- [C](c.md)\n");
    assert!(missing.starts_with("docs/SUMMARY.md:3: there is no page `c.md`"));
}

#[test]
fn rule_a_dead_link_is_found() {
    let page = |html: &str| SiteFile::parse("a.html", html.to_owned());
    let fault = |url: &str| {
        let html = format!("<h2 id=x>X</h2><a href=\"{url}\">a</a>");
        let site = SiteFiles::from([
            ("a.html".to_owned(), page(&html)),
            (
                "sub/b.html".to_owned(),
                page("<script>'<p id=no>'</script>"),
            ),
        ]);
        link_problems(&site).join("\n")
    };
    for good in [
        "#x",
        "a.html#x",
        "sub/b.html",
        "https://example.org/#y",
        "#",
    ] {
        assert_eq!(fault(good), "");
    }
    for (bad, what) in [
        ("c.html", "no such page"),
        ("c.png", "no such page"),
        ("#y", "no heading or id `y` in a.html"),
        ("sub/b.html#x", "no heading or id `x` in sub/b.html"),
        ("sub/b.html#no", "no heading or id `no`"),
        ("../crates/a.rs", "leads out of docs/"),
        ("/a.html", "not with `/`"),
    ] {
        let found = fault(bad);
        assert!(found.contains(what), "{bad}: {found}");
        let place = format!("a.html (built): link `{bad}`: ");
        assert!(found.starts_with(&place), "{found}");
    }
}

#[test]
fn rule_what_is_loaded_from_elsewhere_is_found() {
    let problems = |html: &str| {
        let file = SiteFile::parse("a.html", html.to_owned());
        load_problems("a.html", &file).join("\n")
    };
    assert_eq!(problems("<a href='https://example.org'>a</a>"), "");
    assert_eq!(problems("<img src='a.svg'><img src='data:x'>"), "");
    for bad in [
        "<script src='https://example.org/a.js'></script>",
        "<img src='//example.org/a.png'>",
        "<link href='http://example.org/a.css'>",
    ] {
        assert!(problems(bad).contains("example.org"), "{bad}");
    }
    assert!(problems("<pre class='x playground'>").contains("runnable"));
    let script = "const svg = 'http://www.w3.org/2000/svg';";
    assert_eq!(asset_problems("a.js", script), [""; 0]);
    assert_eq!(asset_problems("a.css", "@import 'https://a.b'").len(), 1);
}

// ---------------------------------------------------------------------------
// What a page may hold

#[test]
fn every_chapter_follows_the_template() {
    assert_none(
        chapters().flat_map(|page| template_problems(&page.path, &page.text)),
    );
}

#[test]
fn no_chapter_holds_code_or_output_typed_by_hand() {
    assert_none(
        chapters().flat_map(|page| fence_problems(&page.path, &page.text)),
    );
}

#[test]
fn every_test_that_the_book_names_exists() {
    assert_none(
        pages()
            .flat_map(|page| named_test_problems(&page.path, &page.text, read)),
    );
}

#[test]
fn the_prose_is_plain() {
    assert_none(
        pages().flat_map(|page| prose_problems(&page.path, &page.text)),
    );
}

fn template_problems(path: &str, text: &str) -> Vec<String> {
    let headings = headings(text);
    let mut problems = Vec::new();
    let titles = headings.iter().filter(|h| h.level == HeadingLevel::H1);
    if titles.count() != 1 || headings[0].level != HeadingLevel::H1 {
        problems.push(at(path, 1, "a chapter starts with its one `# Title`"));
    }

    let first = path.starts_with("docs/01-");
    let mut expected = SECTIONS
        .into_iter()
        .filter(|s| !(first && *s == "What changed"));
    let sections: Vec<_> = headings
        .iter()
        .filter(|h| h.level == HeadingLevel::H2)
        .collect();
    for section in &sections {
        let expects = expected.next();
        if expects != Some(&section.title) {
            let what = format!(
                "found `## {}` where the template has {}: see SECTIONS in \
                 tests/book.rs, or make it a `###` section",
                section.title,
                expects.map_or("no more".into(), |e| format!("`## {e}`")),
            );
            problems.push(at(path, section.line, &what));
            // What follows is out of step, too: once is enough.
            return problems;
        }
    }
    if let Some(missing) = expected.next() {
        let line = text.lines().count();
        problems.push(at(path, line, &format!("`## {missing}` is missing")));
        return problems;
    }

    let questions = sections.iter().position(|s| s.title == "Check yourself");
    if let Some(index) = questions {
        let end = sections.get(index + 1).map_or(text.len(), |s| s.start);
        let section = &text[sections[index].start..end];
        let count = |tag| section.matches(tag).count();
        let tags = ["<details", "</details>", "<summary", "</summary>"];
        if tags.map(count) != [3; 4] {
            problems.push(at(
                path,
                sections[index].line,
                "`Check yourself` has three questions, each with its answer \
                 in <details> with a <summary>",
            ));
        }
    }
    problems
}

struct Heading {
    level: HeadingLevel,
    title: String,
    start: usize,
    line: usize,
}

fn headings(text: &str) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut inside = false;
    for (event, range) in markdown(text) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                inside = true;
                headings.push(Heading {
                    level,
                    title: String::new(),
                    start: range.start,
                    line: line_of(text, range.start),
                });
            }
            Event::End(TagEnd::Heading(_)) => inside = false,
            Event::Text(part) | Event::Code(part) if inside => {
                if let Some(heading) = headings.last_mut() {
                    heading.title.push_str(&part);
                }
            }
            _ => {}
        }
    }
    headings
}

fn fence_problems(path: &str, text: &str) -> Vec<String> {
    static INCLUDE: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^\{\{#(rustdoc_)?include [^}]+\}\}$"));
    let mut problems = Vec::new();
    let mut language = None;
    let mut content = String::new();
    for (event, range) in markdown(text) {
        let problem = match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                content.clear();
                language = Some(match kind {
                    CodeBlockKind::Fenced(info) => info
                        .split([',', ' '])
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    CodeBlockKind::Indented => String::new(),
                });
                None
            }
            Event::Text(part) if language.is_some() => {
                content.push_str(&part);
                None
            }
            Event::End(TagEnd::CodeBlock) => {
                let lines: Vec<_> =
                    content.lines().filter(|l| !l.trim().is_empty()).collect();
                match language.take().unwrap_or_default().as_str() {
                    "rust" | "text" | "console" => {
                        let included =
                            lines.iter().all(|line| INCLUDE.is_match(line));
                        (!included || lines.is_empty()).then_some(
                            "code and output are included, not typed: use \
                             {{#include FILE:ANCHOR}} and nothing else",
                        )
                    }
                    "sh" => lines.iter().find_map(|l| command_fault(l)),
                    "python" => None,
                    _ => Some(
                        "a code block is ```rust, ```text, ```console, \
                         ```sh or ```python: name its language",
                    ),
                }
            }
            Event::Html(html) | Event::InlineHtml(html)
                if html.contains("<pre") =>
            {
                Some("use a code block with an include instead of <pre>")
            }
            _ => None,
        };
        problems.extend(
            problem.map(|what| at(path, line_of(text, range.start), what)),
        );
    }
    problems
}

fn command_fault(line: &str) -> Option<&'static str> {
    if line.starts_with(['$', '#', '>', '%']) {
        Some("a ```sh block holds commands only, without prompt or comment")
    } else if line.ends_with('\\') || line.contains("&&") {
        Some("a ```sh block holds one command per line")
    } else {
        None
    }
}

/// What a hand-out leaves out.
const PROOF: [&str; 2] = ["tests/exercises.rs", "tests/show.rs"];

fn named_test_problems(
    path: &str,
    text: &str,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (event, range) in markdown(text) {
        let Event::Code(span) = event else { continue };
        let Some((file, name)) = named_test(&span) else {
            continue;
        };
        let fault = match read(&file) {
            None => format!("`{span}`: there is no {file}"),
            // A hand-out is without the proof of the checker.
            Some(source)
                if PROOF.contains(&file.as_str())
                    && !source.contains("#[test]") =>
            {
                continue;
            }
            Some(source) if !has_test(&source, name) => {
                format!("`{span}`: {file} has no #[test] `{name}`")
            }
            Some(_) => continue,
        };
        let what = format!("{fault}: write the test or mend its name");
        problems.push(at(path, line_of(text, range.start), &what));
    }
    problems
}

/// The file and the name of the test that a code span names, if it does.
///
/// A lesson's stem starts with two digits, and `PACKAGE/MODULE` has a slash: no
/// path of Rust looks like either. For other files, such as `tutorial`, the name
/// tells: a test's is a sentence, of three words or more.
fn named_test(span: &str) -> Option<(String, &str)> {
    static UNIT: LazyLock<Regex> =
        LazyLock::new(|| regex("^([a-z0-9-]+)/([a-z0-9_/-]+)$"));
    static LESSON: LazyLock<Regex> =
        LazyLock::new(|| regex("^[0-9]{2}-[a-z0-9-]+$"));
    static OTHER: LazyLock<Regex> =
        LazyLock::new(|| regex("^[a-z]+::[a-z0-9]+(_[a-z0-9]+){2,}$"));
    let (place, name) = span.split_once("::")?;
    if let Some(unit) = UNIT.captures(place) {
        Some((format!("crates/{}/src/{}.rs", &unit[1], &unit[2]), name))
    } else if LESSON.is_match(place) || OTHER.is_match(span) {
        Some((format!("tests/{place}.rs"), name))
    } else {
        None
    }
}

/// Whether `source` has a function `name` with `#[test]` among the lines
/// above it.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_it = |line: &&str| {
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        function.and_then(|f| f.split(['(', '<']).next()) == Some(name)
    };
    lines.iter().enumerate().any(|(index, line)| {
        let above = lines[..index].iter().rev();
        let attributes =
            above.take_while(|l| !l.is_empty() && !l.ends_with(['{', '}']));
        is_it(line) && attributes.into_iter().any(|l| *l == "#[test]")
    })
}

/// What a search can find of the rules for prose: no exclamation mark, no
/// word that tells readers how easy it was, British spelling, nothing left to
/// do. Code and addresses are exempt.
fn prose_problems(path: &str, text: &str) -> Vec<String> {
    static BAD: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (regex("!"), "no exclamation marks"),
            (
                regex(r"(?i)\b(simply|obviously)\b"),
                "say what happens, not how easy it is",
            ),
            (
                regex(
                    r"(?x)(?i)\b(behavior|color|favor|honor|neighbor|
                    analyz|emphasiz|organiz|realiz|recogniz|summariz|
                    canceled|canceling|labeled|labeling)\w*",
                ),
                "use the British spelling",
            ),
            (regex(r"\b(TODO|FIXME)\b"), "finish it"),
        ]
    });
    let mut problems = Vec::new();
    for (prose, start) in prose(text) {
        for (bad, advice) in &*BAD {
            for found in bad.find_iter(&prose) {
                let what = format!("`{}`: {advice}", found.as_str());
                problems.push(at(path, line_of(text, start), &what));
            }
        }
    }
    problems
}

/// The text that is neither code nor markup, with where it starts.
fn prose(text: &str) -> Vec<(String, usize)> {
    static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r"(?xs)<!--.*?--> | <style.*?</style> | <script.*?</script> |
            <[^>]*>",
        )
    });
    let mut found = Vec::new();
    let mut in_code = false;
    for (event, Range { start, end }) in markdown(text) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Text(part) if !in_code => {
                found.push((part.into_string(), start));
            }
            Event::Start(Tag::HtmlBlock) => {
                let bare = MARKUP.replace_all(&text[start..end], "");
                found.push((bare.into_owned(), start));
            }
            _ => {}
        }
    }
    found
}

const QUESTION: &str =
    "<details>\n<summary>Why?</summary>\n\nSo.\n\n</details>\n\n";

fn chapter_with(sections: &[&str], questions: usize) -> String {
    let mut chapter = String::from("# Title\n\n");
    for section in sections {
        chapter += &format!("## {section}\n\nText.\n\n### Part\n\n");
        if *section == "Check yourself" {
            chapter += &QUESTION.repeat(questions);
        }
    }
    chapter
}

#[test]
fn rule_a_chapter_that_leaves_the_template_is_found() {
    let problem =
        |path: &str, text: &str| template_problems(path, text).join("\n");
    let second =
        |sections: &[&str]| problem("docs/02-b.md", &chapter_with(sections, 3));
    assert_eq!(second(&SECTIONS), "");
    let without = |section: &str| -> Vec<_> {
        SECTIONS.into_iter().filter(|s| *s != section).collect()
    };
    let first = chapter_with(&without("What changed"), 3);
    assert_eq!(problem("docs/01-a.md", &first), "");

    let found = second(&without("What changed"));
    assert!(found.contains("template has `## What changed`"), "{found}");
    let found = second(&SECTIONS[..10]);
    assert!(found.contains("`## Exercise` is missing"), "{found}");
    let mut swapped = SECTIONS;
    swapped.swap(0, 1);
    let found = second(&swapped);
    assert!(
        found.contains("docs/02-b.md:3: found `## Predict`"),
        "{found}"
    );
    let found = second(&[&SECTIONS[..], &["More"]].concat());
    assert!(found.contains("found `## More`"), "{found}");

    let two = chapter_with(&SECTIONS, 2);
    assert!(problem("docs/02-b.md", &two).contains("three questions"));
    let all = chapter_with(&SECTIONS, 3);
    let untitled = all.replace("# Title\n", "Text.\n");
    assert!(problem("docs/02-b.md", &untitled).contains("one `# Title`"));
    assert!(problem("docs/02-b.md", "").contains("one `# Title`"));
}

#[test]
fn rule_code_typed_by_hand_is_found() {
    let problem = |block: &str| {
        fence_problems("docs/01-a.md", &format!("# A\n\n{block}\n")).join("\n")
    };
    for good in [
        "```rust\n{{#include ../crates/01-a/src/main.rs:accept}}\n```",
        "```rust,ignore\n{{#rustdoc_include ../a.rs:b}}\n```",
        "```console\n{{#include transcripts/a.txt}}\n```",
        "```sh\ncargo run -p lesson-01-single-client\ncargo run\n```",
        "```python\ns.listen(5)\n```",
    ] {
        assert_eq!(problem(good), "", "{good}");
    }
    for (bad, what) in [
        ("```rust\nlet x = 1;\n```", "included, not typed"),
        ("```rust\n```", "included, not typed"),
        (
            "```text\n{{#include a.txt}}\nmore\n```",
            "included, not typed",
        ),
        ("```console\n$ ls\n```", "included, not typed"),
        ("```sh\n$ cargo run\n```", "without prompt"),
        ("```sh\ncd x && ls\n```", "one command per line"),
        ("```\nlisten\n```", "name its language"),
        ("```c\nlisten();\n```", "name its language"),
        ("Text\n\n    let x = 1;", "name its language"),
        ("<pre>listen</pre>", "instead of <pre>"),
    ] {
        let found = problem(bad);
        assert!(found.contains(what), "{bad}: {found}");
    }
    assert!(problem("```c\n```").starts_with("docs/01-a.md:3: "));
}

#[test]
fn rule_a_test_that_does_not_exist_is_found() {
    let source = "fn helper() {}\n\n/// Why.\n#[test]\n\
        #[ignore = \"needs python3\"]\nfn waits() {\n}\n\n#[test]\nfn it_still_waits() {\n}\n\
        fn bare() {}\n";
    let problem = |span: &str| {
        let page = format!("# A\n\nIt does (`{span}`).\n");
        let read = |path: &str| {
            if path == "tests/exercises.rs" {
                return Some("//! A hand-out.\n".to_owned());
            }
            [
                "tests/01-a.rs",
                "tests/servers.rs",
                "crates/04-b/src/pool.rs",
            ]
            .contains(&path)
            .then(|| source.to_owned())
        };
        named_test_problems("docs/01-a.md", &page, read).join("\n")
    };
    for good in [
        "01-a::waits",
        "servers::it_still_waits",
        "exercises::in_no_hand_out",
        "04-b/pool::waits",
        "TcpStream::connect",
        "str::from_utf8",
        "std::net::set_read_timeout",
    ] {
        assert_eq!(problem(good), "");
    }
    for (bad, what) in [
        ("01-a::gone", "tests/01-a.rs has no #[test] `gone`"),
        ("01-a::helper", "no #[test] `helper`"),
        ("01-a::bare", "no #[test] `bare`"),
        ("01-a::tests::waits", "no #[test] `tests::waits`"),
        ("02-b::waits", "there is no tests/02-b.rs"),
        ("servers::it_is_gone", "no #[test] `it_is_gone`"),
        ("grade::it_still_waits", "there is no tests/grade.rs"),
        ("04-b/main::waits", "there is no crates/04-b/src/main.rs"),
    ] {
        let found = problem(bad);
        assert!(found.contains(what), "{bad}: {found}");
        assert!(found.starts_with("docs/01-a.md:3: "), "{found}");
    }
}

#[test]
fn rule_prose_that_is_not_plain_is_found() {
    let problem = |text: &str| prose_problems("docs/a.md", text).join("\n");
    for good in [
        "The behaviour of `println!` and `color`, recognised.",
        "![A figure](color.svg) and [simple](simply.md)",
        "```rust\npanic!(); // TODO\n```",
        "<!-- simply! -->\n\nText.",
        "<details style=\"color: red\">\n<summary>Why?</summary>",
    ] {
        assert_eq!(problem(good), "", "{good}");
    }
    for bad in [
        "It works!",
        "Simply run it.",
        "Obviously so.",
        "- Its behavior\n",
        "## Recognized colors",
        "TODO: more",
        "<details>\n<summary>Done!</summary>",
    ] {
        assert!(problem(bad).starts_with("docs/a.md:1: "), "{bad}");
    }
    assert!(problem("# A\n\nOne\nline!\n").starts_with("docs/a.md:4: "));
}

// ---------------------------------------------------------------------------
// Reading the repository and the built book

/// A page of the book, as it was written.
struct Page {
    /// From the root of the repository, with `/` on every system.
    path: String,
    text: String,
}

impl Page {
    fn is_summary(&self) -> bool {
        self.path == "docs/SUMMARY.md"
    }

    /// The page's path in the built book.
    fn html(&self) -> Option<String> {
        let stem = self.path.strip_prefix("docs/")?.strip_suffix(".md")?;
        Some(format!("{stem}.html"))
    }
}

static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let paths = files_below("docs").into_iter();
    let pages = paths.filter(|path| path.ends_with(".md")).map(|path| Page {
        text: read(&path).unwrap_or_default(),
        path,
    });
    pages.collect()
});

static SITE: LazyLock<Site> =
    LazyLock::new(|| build_site().expect("the book does not build"));

fn build_site() -> Result<Site> {
    let out = TempDir::new()?;
    let warnings = book::build_into(root(), out.path())?.warnings;
    let mut paths = Vec::new();
    collect_files(out.path(), "", &mut paths);
    let files = paths.into_iter().map(|path| {
        let bytes = fs::read(out.path().join(&path))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let file = SiteFile::parse(&path, text);
        Ok((path, file))
    });
    let files = files.collect::<Result<_>>()?;
    Ok(Site { files, warnings })
}

/// Writes a book with one page into a temporary folder.
fn write_book(page: &str) -> Result<TempDir> {
    let folder = TempDir::new()?;
    let docs = folder.path().join("docs");
    fs::create_dir(&docs)?;
    fs::create_dir(docs.join("assets"))?;
    for file in [
        "book.toml",
        "docs/assets/course.css",
        "docs/assets/player.css",
        "docs/assets/player.js",
    ] {
        fs::copy(root().join(file), folder.path().join(file))?;
    }
    fs::write(docs.join("SUMMARY.md"), "- [Page](page.md)\n")?;
    fs::write(docs.join("page.md"), page)?;
    Ok(folder)
}

fn pages() -> impl Iterator<Item = &'static Page> {
    PAGES.iter()
}

/// The pages that are a lesson's chapter.
fn chapters() -> impl Iterator<Item = &'static Page> {
    static CHAPTER: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^docs/[0-9]{2}-[a-z0-9-]+\.md$"));
    pages().filter(|page| CHAPTER.is_match(&page.path))
}

fn includes_of_the_book() -> impl Iterator<Item = Include> {
    pages().flat_map(|page| includes(&page.path, &page.text))
}

/// The text of a file, from the root of the repository.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// All files below a folder, from the root of the repository.
fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    collect_files(&root().join(folder), folder, &mut files);
    files.sort();
    files
}

fn collect_files(folder: &Path, name: &str, files: &mut Vec<String>) {
    // A folder that does not exist yet has no files.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let path = match name {
            "" => file,
            _ => format!("{name}/{file}"),
        };
        if entry.path().is_dir() {
            collect_files(&entry.path(), &path, files);
        } else {
            files.push(path);
        }
    }
}

/// Where `link`, written in the file `from`, leads; `None` if that is above
/// the root.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The events of a page, parsed as mdBook does.
fn markdown(text: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    new_cmark_parser(text, &MarkdownOptions::default()).into_offset_iter()
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn at(path: &str, line: usize, what: &str) -> String {
    format!("{path}:{line}: {what}")
}

fn assert_none(problems: impl IntoIterator<Item = String>) {
    let problems: Vec<_> = problems.into_iter().collect();
    assert!(problems.is_empty(), "\n\n{}\n", problems.join("\n"));
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern that is right")
}
