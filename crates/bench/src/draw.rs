//! What `designs` has found, as tables and bars for the book. The page's style
//! lays them out, and gives them the colours of its theme.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::counts::{Calls, Counts, short};
use crate::designs::{AGAIN, BASE, Row};
use crate::measure::{Ratio, Speed};

/// The designs that the course teaches, and who stands for each.
const DESIGNS: [(&str, &str); 5] = [
    ("sequential", "06-socketserver sequential-tcp"),
    ("a thread for each client", BASE),
    ("a pool of threads", "04-thread-pool"),
    ("an event loop", "10-event-loop"),
    ("async", "11-async"),
];
const ECHOES: [(&str, &str); 5] = [
    ("1", "echo-1"),
    ("4", "echo-4"),
    ("50", "echo-50"),
    ("500", "echo-500"),
    ("5,000", "echo-5000"),
];
const NOTHING: &str = "&ndash;";

/// A number for each contender, under a title.
struct Column {
    title: &'static str,
    of: BTreeMap<String, f64>,
}

/// Draws what stands in `file`, each part between anchors for a page.
pub fn html(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let rows = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Row>, _>>()
        .with_context(|| format!("{} is not of `designs`", file.display()))?;
    let speeds = |title, load: &str, value: fn(&Speed) -> Option<f64>| {
        column(title, &rows, |row| match row {
            Row::Speed(speed) if speed.load == load => {
                Some((&speed.contender, value(speed)?))
            }
            _ => None,
        })
    };
    let cost = |title, load| speeds(title, load, |speed| speed.cost);
    let clock = |title, load| speeds(title, load, |speed| Some(speed.figure));
    let memory = || {
        column("an idle client, KiB", &rows, |row| match row {
            Row::Memory(memory) => Some((&memory.contender, memory.kib)),
            _ => None,
        })
    };
    let calls = |title, of: fn(&Calls) -> &Counts| {
        column(title, &rows, |row| match row {
            Row::Calls(calls) => {
                Some((&calls.contender, of(calls).values().sum()))
            }
            _ => None,
        })
    };
    let connection = || cost("a connection, µs", "connect");
    let parts = [
        ("run", run(&rows)),
        (
            "costs",
            table(&[
                memory(),
                calls("a request, system calls", |calls| &calls.request),
                cost("a request, µs, 4 clients", "echo-4"),
                cost("a request, µs, 500 clients", "echo-500"),
                calls("a connection, system calls", |calls| &calls.client),
                connection(),
            ]),
        ),
        (
            "processor",
            bars(
                "Microseconds of a processor for a request, by the number \
                 of clients",
                &ECHOES.map(|(title, load)| cost(title, load)),
            ),
        ),
        (
            "clock",
            bars(
                "Requests a second, by the number of clients",
                &ECHOES.map(|(title, load)| clock(title, load)),
            ),
        ),
        (
            "clients",
            bars(
                "What a client costs besides, and a megabyte that goes \
                 through",
                &[memory(), connection(), cost("a megabyte, µs", "bulk")],
            ),
        ),
        (
            "pairs-processor",
            pairs(
                "Processor time that the first took where the second took 1",
                &rows,
                |_, cost| *cost,
            ),
        ),
        (
            "pairs-clock",
            pairs(
                "What the first did in the time in which the second did 1",
                &rows,
                |clock, _| *clock,
            ),
        ),
    ];
    let mut html =
        "<!-- Drawn by `bench --draw`. Do not edit. -->\n".to_owned();
    for (name, part) in parts {
        html += &format!(
            "<!-- ANCHOR: {name} -->\n{part}<!-- ANCHOR_END: {name} -->\n"
        );
    }
    Ok(html)
}

fn column<'a>(
    title: &'static str,
    rows: &'a [Row],
    value: impl Fn(&'a Row) -> Option<(&'a String, f64)>,
) -> Column {
    let of = rows.iter().filter_map(value);
    let of = of.map(|(contender, number)| (contender.clone(), number));
    Column {
        title,
        of: of.collect(),
    }
}

/// What measured, and how far lesson 03 was from itself.
fn run(rows: &[Row]) -> String {
    let mut html = String::new();
    let mut clock = Vec::new();
    let mut cost = Vec::new();
    for row in rows {
        match row {
            Row::Run {
                machine,
                versions,
                rounds,
                millis,
                pinned,
                load_average: [before, after],
            } => {
                let cores = match pinned {
                    true => "Server and load had a core each",
                    false => "Server and load shared the cores",
                };
                html += &format!(
                    "<p>{machine}. {}. {cores}; each server had {rounds} \
                     turns of {millis} ms under each load. Load average \
                     {before} before and {after} after.</p>\n",
                    versions.join(", "),
                );
            }
            Row::Speed(speed) if speed.contender == AGAIN => {
                clock.extend(speed.ratio);
                cost.extend(speed.cost_ratio);
            }
            _ => {}
        }
    }
    html + &format!(
        "<p>Lesson 03 beside itself, the noise: by the clock {}; in processor \
         time {}.</p>\n",
        span(&clock),
        span(&cost),
    )
}

fn span(ratios: &[Ratio]) -> String {
    let least = |of: fn(&Ratio) -> f64| {
        ratios.iter().map(of).fold(f64::INFINITY, f64::min)
    };
    let most =
        |of: fn(&Ratio) -> f64| ratios.iter().map(of).fold(0.0, f64::max);
    format!(
        "{:.2} to {:.2} as medians, {:.2} to {:.2} in single rounds",
        least(|ratio| ratio.median),
        most(|ratio| ratio.median),
        least(|ratio| ratio.least),
        most(|ratio| ratio.greatest),
    )
}

/// The designs of the course, a column for each cost.
fn table(columns: &[Column]) -> String {
    let titles = columns.iter().map(|column| column.title);
    let mut html = head("What each design costs", "design", titles);
    for (design, contender) in DESIGNS {
        html += &format!("<tr><th scope=\"row\">{design}</th>");
        for column in columns {
            let number = column.of.get(contender);
            let text = number.map_or(NOTHING.to_owned(), |&n| digits(n));
            html += &format!("<td>{text}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// All contenders, with a bar in each cell; each column has its own scale.
fn bars(caption: &str, columns: &[Column]) -> String {
    let columns: Vec<_> = columns
        .iter()
        .filter(|column| !column.of.is_empty())
        .collect();
    let mut contenders: Vec<_> = columns
        .iter()
        .flat_map(|column| column.of.keys())
        .filter(|name| *name != AGAIN)
        .collect();
    contenders.sort();
    contenders.dedup();
    let titles = columns.iter().map(|column| column.title);
    let mut html = head(caption, "server", titles);
    for contender in contenders {
        let class = match contender.starts_with(|c: char| c.is_ascii_digit()) {
            true => " class=\"lesson\"",
            false => "",
        };
        // A person's command may hold anything.
        let name = contender.replace('&', "&amp;").replace('<', "&lt;");
        html += &format!("<tr{class}><th scope=\"row\">{name}</th>");
        for column in &columns {
            let most = column.of.values().copied().fold(0.0, f64::max);
            html += &match column.of.get(contender) {
                Some(&number) => format!(
                    "<td style=\"--part: {:.0}%\">{}</td>",
                    number / most * 100.0,
                    digits(number),
                ),
                None => format!("<td>{NOTHING}</td>"),
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn head<'a>(
    caption: &str,
    of: &str,
    titles: impl Iterator<Item = &'a str>,
) -> String {
    let titles: String = titles
        .map(|title| format!("<th scope=\"col\">{title}</th>"))
        .collect();
    format!(
        "<div class=\"bench\"><table><caption>{caption}</caption>\n\
         <thead><tr><th scope=\"col\">{of}</th>{titles}</tr></thead><tbody>\n"
    )
}

/// Two and two beside each other, a column for each load.
fn pairs(
    caption: &str,
    rows: &[Row],
    of: fn(&Option<Ratio>, &Option<Ratio>) -> Option<Ratio>,
) -> String {
    let mut loads = Vec::new();
    let mut lines: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for row in rows {
        match row {
            Row::Load { name, .. } => loads.push(name),
            Row::Pair {
                load,
                contender,
                beside,
                ratio,
                cost_ratio,
                ..
            } => {
                let line = lines.entry((contender, beside)).or_default();
                line.insert(load, of(ratio, cost_ratio));
            }
            _ => {}
        }
    }
    let mut html = head(caption, "servers", loads.iter().map(|s| s.as_str()));
    for ((contender, beside), line) in lines {
        html += &format!("<tr><th scope=\"row\">{contender} to {beside}</th>");
        for load in &loads {
            html += &match line.get(load) {
                Some(Some(ratio)) => format!(
                    "<td>{:.2}<br><small>{:.2} to {:.2}</small></td>",
                    ratio.median, ratio.least, ratio.greatest
                ),
                _ => format!("<td>{NOTHING}</td>"),
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// Three digits, or all before the point: `9.57`, `44.1`, `129,500`.
fn digits(number: f64) -> String {
    match number {
        n if n < 10.0 => short(n),
        n if n < 100.0 => short((n * 10.0).round() / 10.0),
        n if n < 1000.0 => format!("{n:.0}"),
        n => format!("{:.0},{:03.0}", (n / 1e3).floor(), n.round() % 1e3),
    }
}
