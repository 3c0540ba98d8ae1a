//! What is printed, and where: results on standard output, progress and notes on standard error.
//!
//! On a terminal, progress is a bar; elsewhere (a log file, a pipe) it is a line every now and then. Everything fits
//! into 80 columns.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::hint::hint;

/// How long progress is silent between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// The unit of [`Console::countdown`]; a rate would say nothing.
const SECONDS: &str = "s";

/// Every line fits into this.
const COLUMNS: usize = 80;

/// How a command talks.
#[derive(Clone, Copy)]
pub struct Console {
    quiet: bool,
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// A line of what the command was asked for. Where nobody reads any more (`relievo .. | head`) the program ends.
    pub fn result(&self, text: impl Display) {
        if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
            if error.kind() == io::ErrorKind::BrokenPipe {
                std::process::exit(0);
            }
            self.error(&anyhow::Error::new(error).context("cannot write to standard output"));
            std::process::exit(1);
        }
    }

    /// A line for whoever watches; not with `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// Something that is not right but does not stop the command.
    pub fn warning(&self, text: impl Display) {
        to_stderr(format_args!("warning: {text}"));
    }

    /// Why the command failed, and what to do about it.
    pub fn error(&self, error: &anyhow::Error) {
        to_stderr(format_args!("error: {}", whole_story(error)));
        if let Some(hint) = hint(error) {
            to_stderr(format_args!("hint: {hint}"));
        }
    }

    /// Progress through `total` of something (`unit` in the plural: images, steps).
    pub fn progress(&self, total: u64, unit: &'static str) -> Progress {
        Progress::new(*self, total, unit)
    }

    /// Progress through so many seconds, for what only the clock ends.
    pub fn countdown(&self, seconds: u64) -> Progress {
        Progress::new(*self, seconds, SECONDS)
    }
}

/// Nobody can be told that standard error is closed.
fn to_stderr(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
}

/// The text without what would command a terminal: a file may have any name.
fn printable(text: &str) -> String {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_command(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An error and its causes on one line. Many errors repeat their cause in their own words: it is not said twice.
fn whole_story(error: &anyhow::Error) -> String {
    let mut story = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !story.contains(&cause) {
            story = format!("{story}: {cause}");
        }
    }
    story
}

/// A panic is a defect of the program and says so in a line, without a backtrace.
pub fn report_defects() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let message = text.or_else(|| payload.downcast_ref().copied()).unwrap_or("no message");
        to_stderr(format_args!("error: a defect in relievo {}{place}: {message}", env!("CARGO_PKG_VERSION")));
    }));
}

/// Progress through a known number of things.
pub struct Progress {
    console: Console,
    bar: Option<ProgressBar>,
    total: u64,
    unit: &'static str,
    /// When it began, and how much was done by then (a resumed run does not begin at 0).
    began: Option<(Instant, u64)>,
    last_line: Instant,
}

impl Progress {
    fn new(console: Console, total: u64, unit: &'static str) -> Self {
        let bar = (!console.quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style("{bar:24} {prefix}"));
            bar
        });
        Self { console, bar, total, unit, began: None, last_line: Instant::now() }
    }

    /// Notes that `done` of the total are done; `detail` (losses, say) comes below the bar, or behind the line.
    pub fn set(&mut self, done: u64, detail: impl Display) {
        let now = Instant::now();
        let &mut (began, first) = self.began.get_or_insert((now, done));
        let last = done >= self.total;
        if self.bar.is_none() && (self.console.quiet || (!last && now - self.last_line < LINE_EVERY)) {
            return;
        }
        let (elapsed, units) = (now - began, done.saturating_sub(first));
        let rate = units as f64 / elapsed.as_secs_f64().max(1e-9);
        let mut text = format!("{done}/{} {}", self.total, self.unit);
        if units > 0 {
            if self.unit != SECONDS {
                text = format!("{text}, {}/s", three_digits(rate));
            }
            if !last {
                let left = self.total.saturating_sub(done) as f64 / rate;
                text = format!("{text}, {} left", clock(Duration::from_secs_f64(left.min(1e8))));
            }
        }
        let detail = detail.to_string();
        match &self.bar {
            Some(bar) => {
                if !detail.is_empty() && bar.message().is_empty() {
                    bar.set_style(style("{bar:24} {prefix}\n{wide_msg}"));
                }
                bar.set_prefix(text);
                bar.set_message(detail);
                bar.set_position(done);
            }
            None => {
                self.last_line = now;
                let gap = if text.len() + 2 + detail.len() <= COLUMNS { "  " } else { "\n  " };
                self.console.note(if detail.is_empty() { text } else { format!("{text}{gap}{detail}") });
            }
        }
    }

    /// A line that stays above the bar.
    pub fn warning(&self, text: impl Display) {
        self.above(|| self.console.warning(&text));
    }

    /// As [`Progress::warning`], for a note.
    pub fn note(&self, text: impl Display) {
        self.above(|| self.console.note(&text));
    }

    fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A number with three digits that count: 0.123, 1.23, 12.3, 123, 1234.
pub fn three_digits(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// So many of something, by its name in the singular: 1 image, 2 images.
pub fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// A duration as a person says it: 42 s, 3:07 min, 2:05 h.
pub fn clock(duration: Duration) -> impl Display {
    struct Clock(u64);
    impl Display for Clock {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                seconds if seconds < 60 => write!(f, "{seconds} s"),
                seconds if seconds < 3600 => write!(f, "{}:{:02} min", seconds / 60, seconds % 60),
                seconds => write!(f, "{}:{:02} h", seconds / 3600, seconds / 60 % 60),
            }
        }
    }
    Clock(duration.as_secs_f64().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_do_not_command_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tä"), "a\u{fffd}[2Jb\u{fffd}\n\tä");
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = io::Error::other("disk full");
        let error = anyhow::Error::new(cause).context("cannot write a.png: disk full");
        assert_eq!(whole_story(&error), "cannot write a.png: disk full");
        let error = anyhow::Error::msg("disk full").context("cannot write a.png");
        assert_eq!(whole_story(&error), "cannot write a.png: disk full");
    }

    #[test]
    fn durations_and_rates_are_short() {
        let text = |seconds| clock(Duration::from_secs(seconds)).to_string();
        assert_eq!([text(42), text(187), text(7500)], ["42 s", "3:07 min", "2:05 h"]);
        assert_eq!([0.1234, 1.234, 12.34, 1234.4].map(three_digits), ["0.123", "1.23", "12.3", "1234"]);
        assert_eq!([0, 1, 2].map(|number| counted(number, "head")), ["0 heads", "1 head", "2 heads"]);
    }
}
