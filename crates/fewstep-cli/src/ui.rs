//! How the program talks: results on stdout, progress and messages on stderr.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use fewstep::forecast::Forecast;
use fewstep_core::observe::{Event, Observer};
use fewstep_report::is_control;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::interrupt;

/// Seconds between plain progress lines where stderr is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Whether nothing is said.
static HUSHED: AtomicBool = AtomicBool::new(false);

/// From now on nothing is said but why the program fails: another process speaks for this one.
pub fn hush() {
    HUSHED.store(true, Ordering::SeqCst);
}

fn hushed() -> bool {
    HUSHED.load(Ordering::SeqCst)
}

/// Where results go and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Results as JSON, or in words.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result: `value` as JSON where that was asked for, else `text`.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { text() };
        print(format!("{}\n", text.trim_end()).as_bytes())
    }

    /// Prints what a task would do and cost, as the result of a dry run.
    pub fn forecast(&self, forecast: &Forecast) -> anyhow::Result<()> {
        let table = forecast.table().to_terminal(self.colour());
        let time = forecast.time().map_or(String::new(), |time| format!("{time}\n"));
        self.result(forecast, || {
            format!("{table}\n{time}nothing was done: this is a dry run (--json has its settings, too)")
        })
    }

    /// Whether tables on stdout may use colour.
    pub fn colour(&self) -> bool {
        colour_on_stdout()
    }
}

/// Whether stdout is a terminal whose user did not refuse colours.
pub fn colour_on_stdout() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes to stdout. A reader that stops early (`| head`) is no error; a full disk is.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    if hushed() {
        return Ok(());
    }
    let mut out = stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// A message for the person at the terminal.
pub fn note(text: impl AsRef<str>) {
    if hushed() {
        return;
    }
    let _ = writeln!(stderr(), "{}", harmless(text.as_ref()));
}

/// The text as a terminal may show it: messages quote files and arguments, whose control characters could move its cursor, hide what was
/// said, or let a name read as another. Lines stay.
fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| is_control(c) && c != '\n';
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if harms(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A failure and what caused it, in a sentence.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The same where another process failed, which has a stderr of its own: said by the one that speaks.
pub fn error_of_another(text: &str) {
    if !hushed() {
        error(text);
    }
}

/// The sentence that ends a failed command.
pub fn error(text: &str) {
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let label = if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    let _ = writeln!(stderr(), "{label} {}", harmless(text));
}

/// A bug, or libtorch giving up (most often for want of memory), ends in one line instead of a backtrace.
pub fn report_panics_in_a_sentence() {
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("unknown reason");
        let first = text.lines().next().unwrap_or_default();
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let advice = if text.contains("out of memory") || text.contains("alloc") {
            "not enough memory; a smaller --batch needs less"
        } else {
            "this is a bug in fewstep; RUST_BACKTRACE=1 shows where"
        };
        let _ = writeln!(stderr(), "error: {}{place}: {advice}", harmless(first));
    }));
}

/// Whoever is at the terminal: progress as bars, notes as lines, Ctrl-C as a wish to end.
#[derive(Debug, Default)]
pub struct Terminal {
    /// The tasks that go on, each inside the one before it.
    tasks: RefCell<Vec<Progress>>,
    listener: RefCell<Option<interrupt::Listener>>,
}

impl Observer for Terminal {
    fn event(&self, event: Event) {
        let mut tasks = self.tasks.borrow_mut();
        match event {
            Event::Began { task, unit, total, done } => {
                if let Some(outer) = tasks.last() {
                    outer.hide();
                }
                tasks.push(Progress::new(task, unit, total, done));
            }
            Event::Progressed { done, message } => {
                if let Some(task) = tasks.last_mut() {
                    task.set(done, message);
                }
            }
            Event::Ended => {
                if let Some(task) = tasks.pop() {
                    task.finish();
                }
            }
            Event::Note(text) => match tasks.last() {
                Some(task) => task.bar.suspend(|| note(text)),
                None => note(text),
            },
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }

    /// Work that saves itself stands in a run folder: what ends the process from now on says how to go on.
    fn saves_itself(&self, saves: bool) {
        if saves {
            interrupt::resumable();
        }
        *self.listener.borrow_mut() = saves.then(interrupt::listen);
    }
}

/// Progress of one task: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    name: String,
    plain: Option<Instant>,
    started: Instant,
    offset: u64,
}

impl Progress {
    /// `total` units of work, of which `done` were done before.
    fn new(name: &str, unit: &str, total: u64, done: u64) -> Self {
        let terminal = stderr().is_terminal();
        let target = if hushed() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template =
            format!("{{prefix}} {{bar:28}} {{human_pos}}/{{human_len}} {unit}  {{rate}}  {{eta}} left  {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.1}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_prefix(harmless(name).into_owned());
        bar.set_position(done);
        bar.reset(); // what was done before is no speed
        bar.set_position(done);
        bar.reset_eta();
        Self {
            bar,
            name: format!("{name} [{unit}]"),
            plain: (!terminal).then(Instant::now),
            started: Instant::now(),
            offset: done,
        }
    }

    /// Work done so far and what there is to say.
    fn set(&mut self, done: u64, message: impl Into<String>) {
        let message = message.into();
        if let Some(last) = self.plain
            && last.elapsed() >= PLAIN_INTERVAL
        {
            let rate = done.saturating_sub(self.offset) as f64 / self.started.elapsed().as_secs_f64();
            let total = self.bar.length().unwrap_or(0);
            let left = total.saturating_sub(done) as f64 / rate.max(1e-9);
            note(format!("{}: {done}/{total}, {rate:.1}/s, {left:.0} s left  {message}", self.name));
            self.plain = Some(Instant::now());
        }
        self.bar.set_message(harmless(&message).into_owned());
        self.bar.set_position(done);
    }

    /// Takes the bar away while a task inside this one shows its own.
    fn hide(&self) {
        self.bar.suspend(|| ());
    }

    /// Removes the bar.
    fn finish(self) {
        self.bar.finish_and_clear();
    }
}
