//! The pages of the exercises, for a terminal.

use std::fs;

use crate::show;

/// The page of what all exercises have in common.
pub(crate) const CONTRACT: &str = "contract";
/// What a page's text is wrapped at.
const WIDTH: usize = 78;

/// A section of a page whose heading has an id: `### Title {#id}`.
pub struct Section {
    /// The heading.
    pub title: String,
    /// The text below it, as written.
    pub markdown: String,
}

impl Section {
    /// The text for a terminal, with lines of at most 78 characters.
    pub fn text(&self) -> String {
        plain(&self.markdown)
    }

    /// The first sentence of its last part, *Where to look*: less than half of
    /// the way.
    pub fn hint(&self) -> Option<String> {
        let (_, look) = self.markdown.split_once("**Where to look.**")?;
        let look = plain(look.split("\n\n").next()?).replace('\n', " ");
        let ends = |end: &str| look.find(end).map(|at| at + 1);
        let end = [ends(". "), ends("? ")].into_iter().flatten().min();
        Some(look[..end.unwrap_or(look.len())].trim().to_owned())
    }
}

/// The page's file, from the root of the repository.
pub(crate) fn file(stem: &str) -> String {
    format!("docs/exercises/{stem}.md")
}

/// Where a person reads a page, and a section of it: in the book, if it is
/// built, and otherwise in its source. From the root of the repository: what
/// is long enough to be broken by a terminal cannot be copied.
pub(crate) fn link(stem: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!("#{id}")).unwrap_or_default();
    let built = built(stem);
    match harness::root().join(&built).is_file() {
        true => format!("{built}{id}"),
        false => format!("{}{id}", file(stem)),
    }
}

/// The same, for terminals that let a person click on it (OSC 8).
pub(crate) fn hyperlink(stem: &str, id: Option<&str>) -> String {
    let link = link(stem, id);
    match fs::canonicalize(harness::root().join(built(stem))) {
        Ok(built) if cfg!(unix) => {
            let path = built.to_string_lossy().replace(' ', "%20");
            let id = id.map(|id| format!("#{id}")).unwrap_or_default();
            let to = format!("file://{path}{id}");
            format!("\x1b]8;;{to}\x1b\\{link}\x1b]8;;\x1b\\")
        }
        _ => link,
    }
}

fn built(stem: &str) -> String {
    format!("target/book/exercises/{stem}.html")
}

/// The page of that stem, if there is one.
pub(crate) fn read(stem: &str) -> Option<String> {
    fs::read_to_string(harness::root().join(file(stem))).ok()
}

/// The title of a page: its first heading.
pub(crate) fn title(page: &str) -> Option<&str> {
    page.lines().find_map(|line| line.strip_prefix("# "))
}

/// The section with that id on the page of that stem.
pub fn section(stem: &str, id: &str) -> Option<Section> {
    let page = read(stem)?;
    let mark = format!("{{#{id}}}");
    let mut lines = page.lines();
    let heading =
        lines.find(|line| line.starts_with('#') && line.ends_with(&mark))?;
    let mut fenced = false;
    let body: Vec<_> = lines
        .take_while(|line| {
            fenced ^= line.starts_with("```");
            fenced || !line.starts_with('#')
        })
        .collect();
    let title = heading.trim_start_matches('#').trim_end_matches(&mark);
    Some(Section {
        title: title.trim().to_owned(),
        markdown: body.join("\n").trim().to_owned(),
    })
}

/// Paragraphs and list items are wrapped, code is indented, links lose their
/// target. Only what the exercise pages use is known here.
fn plain(markdown: &str) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let mut fenced = false;
    for line in markdown.lines().chain([""]) {
        let item = line.starts_with("- ");
        if fenced || line.starts_with("```") || line.is_empty() || item {
            wrap(&paragraph, &mut out);
            paragraph.clear();
        }
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            out.push_str(&format!("    {line}\n"));
        } else if line.is_empty() {
            out.push('\n');
        } else {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line.trim());
        }
    }
    out.trim_end().to_owned() + "\n"
}

fn wrap(paragraph: &str, out: &mut String) {
    // Of nothing, textwrap makes one empty line.
    if paragraph.is_empty() {
        return;
    }
    let text = without_targets(paragraph);
    let indent = if text.starts_with("- ") { "  " } else { "" };
    let options = show::options(WIDTH).subsequent_indent(indent);
    for line in textwrap::wrap(&text, options) {
        out.push_str(&format!("{line}\n"));
    }
}

/// `[text](target)` becomes `text`; `*` for emphasis goes.
fn without_targets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(middle) = rest.find("](") {
        let (Some(open), Some(close)) =
            (rest[..middle].rfind('['), rest[middle..].find(')'))
        else {
            break;
        };
        out.push_str(&rest[..open]);
        out.push_str(&rest[open + 1..middle]);
        rest = &rest[middle + close + 1..];
    }
    (out + rest).replace('*', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_becomes_plain_text() {
        let text = plain(
            "*One* [link](a.md#b) and\n**two**.\n\n- first\n  goes on\n\
             - second\n\n```text\nlet x = [1](2);\n```\n",
        );
        assert_eq!(
            text,
            "One link and two.\n\n- first goes on\n- second\n\n    \
             let x = [1](2);\n"
        );
    }

    #[test]
    fn a_hint_is_one_sentence() {
        let hint = |text: &str| {
            let markdown = format!("Seen.\n\n**Where to look.** {text}");
            let title = String::new();
            Section { title, markdown }.hint().unwrap()
        };
        assert_eq!(
            hint("The call of\n`read`: is it\none? Is it"),
            "The call of `read`: is it one?"
        );
        assert_eq!(hint("1.5 of them."), "1.5 of them.");
    }

    #[test]
    fn text_is_wrapped_before_the_78th_column() {
        let long = plain(&format!("- {}", "word ".repeat(60)));
        assert!(long.lines().all(|line| line.len() <= 78));
        assert!(long.lines().skip(1).all(|line| line.starts_with("  w")));
    }
}
