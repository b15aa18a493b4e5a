//! The built book in a real browser: its pages load, its figures can be
//! stepped through, its layout holds, its search finds.
//!
//! Run it by
//! `cargo test -p flows --features browser --test browser -- --ignored`;
//! with `SHOTS=FOLDER` it also keeps pictures of every figure, to be looked at.
//! The pages are opened from their folder, as a reader opens them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use harness::Lab;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel};

/// For one whole test; only a browser that hangs waits for it.
const DEADLINE: Duration = Duration::from_secs(600);
/// For something that a page does by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing but the page itself: no updates, no questions, no network.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];
const SIZES: [(u32, u32); 2] = [(1280, 900), (390, 844)];

static BOOK: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().expect("a folder for the book");
    book::build_into(harness::root(), folder.path()).expect("the book builds");
    folder
});

/// The pages of the built book, by file name.
fn pages() -> Result<Vec<String>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(BOOK.path())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".html") {
            pages.push(name);
        }
    }
    pages.sort();
    Ok(pages)
}

/// The pages with a player; not the one that is all pages once more.
fn pages_with_a_player() -> Result<Vec<String>> {
    let mut found = pages()?;
    found.retain(|page| {
        let text = fs::read_to_string(BOOK.path().join(page));
        page != "print.html"
            && text.is_ok_and(|text| text.contains("<figure class=\"flow"))
    });
    ensure!(!found.is_empty(), "no page has a figure");
    Ok(found)
}

fn url(page: &str) -> String {
    format!("file://{}/{page}", BOOK.path().display())
}

/// A browser, and what the tests ask of it.
struct Browser {
    driver: WebDriver,
}

/// Starts a browser for `test`, and ends it whatever comes of that.
fn browse(test: impl AsyncFnOnce(&Browser) -> Result<()>) -> Result<()> {
    let lab = Lab::new();
    let path = Path::new("chromedriver");
    let mut server = lab.start("chromedriver", path, &["--port=0"])?;
    server.expect("started successfully on port ")?;
    let port = server.line()?;
    let server = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
    let profile = TempDir::new()?;
    let mut wanted = DesiredCapabilities::chrome();
    for flag in FLAGS {
        wanted.add_arg(flag)?;
    }
    let profile = format!("--user-data-dir={}", profile.path().display());
    wanted.add_arg(&profile)?;
    wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let driver = WebDriver::new(server, wanted).await?;
            let browser = Browser { driver };
            let tested = tokio::time::timeout(DEADLINE, test(&browser)).await;
            browser.driver.quit().await?;
            tested.context("the browser hangs")?
        })
}

impl Browser {
    async fn tell(&self, command: &str, arguments: Value) -> Result<()> {
        self.driver.cdp().send_raw(command, arguments).await?;
        Ok(())
    }

    async fn resize(&self, (width, height): (u32, u32)) -> Result<()> {
        let screen = json!({
            "width": width, "height": height,
            "deviceScaleFactor": 1, "mobile": false,
        });
        self.tell("Emulation.setDeviceMetricsOverride", screen)
            .await
    }

    /// The scheme, and no smooth scrolling, which nobody here waits for.
    async fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]});
        self.tell("Emulation.setEmulatedMedia", features).await
    }

    async fn open(&self, page: &str) -> Result<()> {
        Ok(self.driver.goto(url(page)).await?)
    }

    async fn ask(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        let answer = self.driver.execute(script, arguments).await?;
        Ok(answer.json().clone())
    }

    /// Nothing was complained about since the last time.
    async fn is_content(&self, page: &str) -> Result<()> {
        let log = self.driver.browser_log().await?;
        ensure!(log.is_empty(), "{page}: the console says {log:?}");
        Ok(())
    }

    /// Waits until `script` returns true.
    async fn until(&self, what: &str, script: &str) -> Result<()> {
        let wait = async {
            while self.ask(script, vec![]).await? != json!(true) {
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.with_context(|| format!("waited for {what}"))?
    }

    /// What the player of a figure shows: its step, and how many there are.
    /// Everything that says which step it is must say the same.
    async fn step(&self, figure: usize) -> Result<(u64, u64)> {
        let shown = self.ask(SHOWN, vec![json!(figure)]).await?;
        let number = |name: &str| shown[name].as_u64().unwrap_or_default();
        let (step, last) = (number("status"), number("last"));
        for part in ["slider", "words", "picture"] {
            ensure!(number(part) == step, "{part} differs: {shown}");
        }
        ensure!(shown["visible"] == json!(1), "one step's words: {shown}");
        ensure!(shown["back"] == json!(step == 1), "Back at {shown}");
        ensure!(shown["next"] == json!(step == last), "Next at {shown}");
        Ok((step, last))
    }
}

const SHOWN: &str = r#"
const figure = document.querySelectorAll('figure.flow')[arguments[0]];
const words = [...figure.querySelectorAll('.flow-steps > li')];
const picture = [...figure.querySelectorAll('.flow-step')];
const number = (steps) => steps.findIndex((s) => s.matches('.flow-now')) + 1;
const [back, next] = figure.querySelectorAll('.flow-controls button');
return {
    status: Number(figure.querySelector('.flow-status').textContent
        .match(/^Step (\d+) of/)[1]),
    slider: Number(figure.querySelector('input').value),
    words: number(words),
    picture: number(picture),
    last: words.length,
    visible: words.filter((w) => w.offsetParent).length,
    back: back.disabled,
    next: next.disabled,
};"#;

#[test]
#[ignore = "needs chromium and chromedriver"]
fn every_page_loads_and_the_console_stays_empty() -> Result<()> {
    browse(async |browser| {
        for page in pages()? {
            browser.open(&page).await?;
            let text = "return document.body.innerText.length > 100";
            browser.until(&format!("the text of {page}"), text).await?;
            browser.is_content(&page).await?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn each_figure_steps_to_its_end_and_back_by_mouse() -> Result<()> {
    browse(async |browser| {
        browser.prefer("light").await?;
        for page in pages_with_a_player()? {
            browser.open(&page).await?;
            let figures = By::Css("figure.flow");
            let figures = browser.driver.find_all(figures).await?;
            for (index, figure) in figures.iter().enumerate() {
                let buttons = By::Css(".flow-controls button");
                let buttons = figure.find_all(buttons).await?;
                let (mut step, last) = browser.step(index).await?;
                ensure!(step == 1 && last > 1, "{page}: {step} of {last}");
                while step < last {
                    buttons[1].click().await?;
                    step += 1;
                    ensure!(browser.step(index).await?.0 == step, "{page}");
                }
                while step > 1 {
                    buttons[0].click().await?;
                    step -= 1;
                    ensure!(browser.step(index).await?.0 == step, "{page}");
                }
                // A click on the slider's middle, and on the words below.
                figure.find(By::Css("input")).await?.click().await?;
                let (middle, _) = browser.step(index).await?;
                ensure!(1 < middle && middle < last, "{page}: {middle}");
                // (Of the paths between states, only one is in sight.)
                let steps = By::Css(".flow-lanes > .flow-step");
                let steps = figure.find_all(steps).await?;
                if let Some(next) = steps.get(middle as usize) {
                    next.click().await?;
                    let (step, _) = browser.step(index).await?;
                    ensure!(step == middle + 1, "{page}: {step}");
                }
            }
            browser.is_content(&page).await?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn each_figure_steps_to_its_end_and_back_by_keyboard() -> Result<()> {
    browse(async |browser| {
        browser.prefer("light").await?;
        for page in pages_with_a_player()? {
            browser.open(&page).await?;
            let here = browser.driver.current_url().await?;
            let figures = By::Css("figure.flow");
            let figures = browser.driver.find_all(figures).await?;
            for (index, figure) in figures.iter().enumerate() {
                let (_, last) = browser.step(index).await?;
                for step in 2..=last {
                    figure.send_keys(Key::Right + "").await?;
                    ensure!(browser.step(index).await?.0 == step, "{page}");
                }
                // At the end, one more changes neither step nor page.
                figure.send_keys(Key::Right + "").await?;
                ensure!(browser.step(index).await?.0 == last, "{page}");
                for step in (1..last).rev() {
                    figure.send_keys(Key::Left + "").await?;
                    ensure!(browser.step(index).await?.0 == step, "{page}");
                }
                figure.send_keys(Key::End + "").await?;
                ensure!(browser.step(index).await?.0 == last, "{page}");
                let slider = figure.find(By::Css("input")).await?;
                slider.send_keys(Key::Left + "").await?;
                ensure!(browser.step(index).await?.0 == last - 1, "{page}");
                figure.send_keys(Key::Home + "").await?;
                ensure!(browser.step(index).await?.0 == 1, "{page}");
            }
            let still_here = browser.driver.current_url().await?;
            ensure!(still_here == here, "{page}: the page was turned");
            browser.is_content(&page).await?;
        }
        Ok(())
    })
}

/// Clicks on *Next* in each frame, and returns after which clicks neither the
/// step nor the one before it is in sight.
const FAST_CLICKS: &str = r#"
const figure = document.querySelector('figure.flow');
const next = figure.querySelectorAll('.flow-controls button')[1];
const steps = [...figure.querySelectorAll('.flow-step')];
const frame = figure.querySelector('.flow-picture').getBoundingClientRect();
const seen = (step) => {
    const { top, bottom } = step.getBoundingClientRect();
    return bottom > frame.top && top < frame.bottom;
};
return (async () => {
    const lost = [];
    for (let at = 1; at < steps.length; at += 1) {
        next.click();
        await new Promise(requestAnimationFrame);
        if (!seen(steps[at]) && !seen(steps[at - 1])) {
            lost.push(at);
        }
    }
    return lost;
})();"#;

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_picture_keeps_up_with_fast_clicks_on_a_phone() -> Result<()> {
    browse(async |browser| {
        browser.resize(SIZES[1]).await?;
        for page in pages_with_a_player()? {
            browser.open(&page).await?;
            let lost = browser.ask(FAST_CLICKS, vec![]).await?;
            ensure!(lost == json!([]), "{page}: lost after clicks {lost}");
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_arrow_keys_still_turn_pages_outside_a_figure() -> Result<()> {
    browse(async |browser| {
        let page = &pages_with_a_player()?[0];
        browser.open(page).await?;
        let body = browser.driver.find(By::Tag("body")).await?;
        body.send_keys(Key::Right + "").await?;
        let turned = format!("return !location.href.includes('{page}')");
        browser.until("the next page", &turned).await
    })
}

/// Complaints about the layout of a page, as a list.
const LAYOUT: &str = r#"
const faults = [];
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) {
    faults.push(`the page is ${root.scrollWidth} wide`);
}
const meet = (a, b, slack) =>
    a.left + slack < b.right && b.left + slack < a.right &&
    a.top + slack < b.bottom && b.top + slack < a.bottom;
// The height of a line of text is more than its letters need.
const letters = ({ left, right, top, bottom }) => {
    const air = (bottom - top) / 5;
    return { left, right, top: top + air, bottom: bottom - air };
};
// The lines of every text in an element.
const lines = (element) => {
    const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walk.nextNode()) {
        const range = document.createRange();
        range.selectNodeContents(walk.currentNode);
        for (const box of range.getClientRects()) {
            const words = walk.currentNode.textContent;
            const parent = walk.currentNode.parentElement;
            found.push({ words, parent, box: letters(box) });
        }
    }
    return found;
};
const within = (box, frame) =>
    box.left > frame.left - 0.5 && box.right < frame.right + 0.5 &&
    box.top > frame.top - 0.5 && box.bottom < frame.bottom + 0.5;
for (const figure of document.querySelectorAll('figure.flow')) {
    const name = figure.id;
    const column = figure.parentElement.getBoundingClientRect();
    const frame = figure.getBoundingClientRect();
    if (frame.left < column.left - 1 || frame.right > column.right + 1) {
        faults.push(`${name} leaves its column`);
    }
    const picture = figure.querySelector('.flow-picture');
    if (picture.scrollWidth > picture.clientWidth) {
        faults.push(`${name} is cut off at its side`);
    }
    const texts = lines(picture);
    if (texts.length < 12) {
        faults.push(`${name} has ${texts.length} lines of text`);
    }
    const bars = [...picture.querySelectorAll('.wait')]
        .map((bar) => bar.getBoundingClientRect());
    texts.forEach(({ words, parent, box }, index) => {
        const cell = parent.closest('.state, .flow-lanes div, .flow-picture');
        const edge = cell.getBoundingClientRect();
        if (cell !== picture && !within(box, edge)) {
            faults.push(`${name}: "${words}" leaves its place`);
        }
        const size = parseFloat(getComputedStyle(parent).fontSize);
        if (size < 10) {
            faults.push(`${name}: "${words}" is ${size} high`);
        }
        for (const other of texts.slice(index + 1)) {
            if (meet(box, other.box, 0.5)) {
                faults.push(`${name}: "${words}" on "${other.words}"`);
            }
        }
        if (bars.some((bar) => meet(box, bar, 0.5))) {
            faults.push(`${name}: "${words}" on a bar`);
        }
    });
    // The boxes of the states, and their names.
    const boxes = [...picture.querySelectorAll('.flow-boxes rect')];
    picture.querySelectorAll('.flow-names text').forEach((text, index) => {
        const box = letters(text.getBoundingClientRect());
        if (!within(box, boxes[index].getBoundingClientRect())) {
            faults.push(`${name}: "${text.textContent}" leaves its box`);
        }
    });
}
return faults;"#;

/// The contrast of a figure's strokes and the page, by WCAG 2.
const CONTRAST: &str = r#"
const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
        const c = part / 255;
        return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const picture = document.querySelector('.flow-picture');
const a = light(getComputedStyle(picture).color);
const b = light(getComputedStyle(document.documentElement).backgroundColor);
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);"#;

const SHOW_ALL: &str =
    "document.querySelectorAll('figure.flow [aria-pressed=false]')
        .forEach((button) => button.click())";

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_layout_holds_on_desktop_and_phone_in_light_and_dark() -> Result<()> {
    browse(async |browser| {
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await?;
            for page in pages_with_a_player()? {
                for size in SIZES {
                    let place = format!("{page}, {scheme}, {}", size.0);
                    browser.resize(size).await?;
                    browser.open(&page).await?;
                    for show in ["", SHOW_ALL] {
                        browser.ask(show, vec![]).await?;
                        let faults = browser.ask(LAYOUT, vec![]).await?;
                        ensure!(faults == json!([]), "{place}: {faults}");
                    }
                    let contrast = browser.ask(CONTRAST, vec![]).await?;
                    let enough = contrast.as_f64().is_some_and(|c| c >= 4.5);
                    ensure!(enough, "{place}: contrast {contrast}");
                    browser.is_content(&place).await?;
                    browser.keep_pictures(&page, scheme, size).await?;
                }
            }
        }
        Ok(())
    })
}

impl Browser {
    /// If asked for by `SHOTS`: each figure of the page, all steps at once,
    /// and at its middle step.
    async fn keep_pictures(
        &self,
        page: &str,
        scheme: &str,
        size: (u32, u32),
    ) -> Result<()> {
        let Some(folder) = env::var_os("SHOTS").map(PathBuf::from) else {
            return Ok(());
        };
        fs::create_dir_all(&folder)?;
        // A picture ends where the window does.
        self.resize((size.0, 12000)).await?;
        let figures = self.driver.find_all(By::Css("figure.flow")).await?;
        for figure in figures {
            let name = figure.attr("id").await?.unwrap_or_default();
            let stem = format!("{name}-{scheme}-{}", size.0);
            let picture = figure.find(By::Css(".flow-picture")).await?;
            picture
                .screenshot(&folder.join(format!("{stem}.png")))
                .await?;
        }
        self.resize(size).await?;
        self.open(page).await?;
        for figure in self.driver.find_all(By::Css("figure.flow")).await? {
            let name = figure.attr("id").await?.unwrap_or_default();
            let stem = format!("{name}-{scheme}-{}-step", size.0);
            figure.find(By::Css("input")).await?.click().await?;
            figure.scroll_into_view().await?;
            self.driver
                .screenshot(&folder.join(format!("{stem}.png")))
                .await?;
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn without_scripts_each_figure_tells_the_whole_story() -> Result<()> {
    browse(async |browser| {
        let off = json!({ "value": true });
        browser
            .tell("Emulation.setScriptExecutionDisabled", off)
            .await?;
        for page in pages_with_a_player()? {
            browser.open(&page).await?;
            let figures = By::Css("figure.flow");
            for figure in browser.driver.find_all(figures).await? {
                let controls = By::Css(".flow-controls");
                ensure!(figure.find_all(controls).await?.is_empty(), "{page}");
                let steps = By::Css(".flow-steps > li");
                for step in figure.find_all(steps).await? {
                    ensure!(step.is_displayed().await?, "{page}: a step");
                }
                let picture = figure.find(By::Css(".flow-picture")).await?;
                ensure!(picture.is_displayed().await?, "{page}: a picture");
            }
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn search_finds_a_word() -> Result<()> {
    browse(async |browser| {
        browser.open("index.html").await?;
        let toggle = By::Css("#mdbook-search-toggle");
        browser.driver.find(toggle).await?.click().await?;
        let bar = By::Css("#mdbook-searchbar");
        browser
            .until("the index", "return Boolean(window.search)")
            .await?;
        browser.driver.find(bar).await?.send_keys("backlog").await?;
        let found = "return [...document.querySelectorAll(
            '#mdbook-searchresults a')].some((a) => a.href.includes('calls'))";
        browser
            .until("a result that leads to the calls", found)
            .await?;
        browser.is_content("search").await
    })
}
