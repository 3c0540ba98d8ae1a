//! The command line: one module for each subcommand, each a thin layer over library calls.
//!
//! What a command was asked for goes to standard output; progress, notes and errors go to standard error. Exit codes: 0
//! done, 1 failed (in whole or in part), 2 the command line makes no sense, 130 stopped by a signal before all was
//! done.

mod animations;
mod bench;
mod category;
mod console;
mod crop;
mod demo;
mod depth;
mod eval;
mod faces;
mod filters;
mod fit;
mod hint;
mod import;
mod info;
mod meshes;
mod reconstruct;
mod relight;
mod render;
mod renderer;
mod reproduce;
mod sources;
mod synth;
mod tables;
mod train;
mod turn;
mod weights;

use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::console::Console;

/// The most threads that may be asked for. Thousands do nothing but wait for each other.
const MOST_THREADS: i64 = 512;

/// 3D from single photographs, learned without supervision
#[derive(Parser)]
#[command(
    name = "relievo",
    version,
    max_term_width = 80,
    after_help = "Start with `relievo demo`, or with a photograph: `relievo reconstruct photo.jpg`."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
    /// Threads that compute [default: one for each core]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Everywhere",
        value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS)
    )]
    threads: Option<u16>,
    /// Print results, warnings and errors only
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    Reconstruct(reconstruct::Options),
    Turn(turn::Options),
    Relight(relight::Options),
    Category(category::Options),
    Crop(crop::Options),
    Synth(synth::Options),
    Train(Box<train::Options>),
    Eval(eval::Options),
    Reproduce(Box<reproduce::Options>),
    Render(Box<render::Options>),
    Renderer(renderer::Options),
    Depth(Box<depth::Options>),
    Fit(Box<fit::Options>),
    Bench(bench::Options),
    Import(import::Options),
    Info(info::Options),
}

fn main() -> ExitCode {
    console::report_defects();
    // The matches know which options were really given: `train` and `reproduce` lay those over a file of settings.
    // A number below zero is answered with the numbers that may be, not taken for an option of its own.
    let command = Line::command().mut_subcommands(|command| {
        command.mut_args(|arg| if arg.get_long().is_some() { arg.allow_negative_numbers(true) } else { arg })
    });
    let matches = command.get_matches();
    let line = Line::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let console = Console::new(line.quiet);
    match run(line, &matches, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            console.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The exit code of what a signal stopped, as shells have it for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// A command that was asked to stop, and has said so.
#[derive(Debug, thiserror::Error)]
#[error("stopped before all was done")]
struct Interrupted;

fn run(line: Line, matches: &ArgMatches, console: &Console) -> anyhow::Result<()> {
    // None is one for each core.
    rayon::ThreadPoolBuilder::new()
        .num_threads(line.threads.map_or(0, usize::from))
        .build_global()
        .context("cannot start the threads that compute; ask for fewer with --threads")?;
    let of_command = matches.subcommand().map_or(matches, |(_, matches)| matches);
    match line.command {
        Command::Demo(options) => demo::run(&options, console),
        Command::Reconstruct(options) => reconstruct::run(&options, console),
        Command::Turn(options) => turn::run(&options, console),
        Command::Relight(options) => relight::run(&options, console),
        Command::Category(options) => category::run(&options, console),
        Command::Crop(options) => crop::run(&options, console),
        Command::Render(options) => render::run(&options, console),
        Command::Renderer(options) => renderer::run(&options, console),
        Command::Depth(options) => depth::run(&options, console),
        Command::Fit(options) => fit::run(&options, console),
        Command::Synth(options) => synth::run(&options, console),
        Command::Eval(options) => eval::run(&options, console),
        Command::Bench(options) => bench::run(&options, console),
        Command::Import(options) => import::run(&options, console),
        Command::Info(options) => info::run(&options, console),
        Command::Train(options) => train::run(&options, of_command, console),
        Command::Reproduce(options) => reproduce::run(&options, of_command, console),
    }
}
