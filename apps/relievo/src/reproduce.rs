//! `relievo reproduce`: measures the tables of the papers, row by row.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, ensure};
use clap::{ArgMatches, Args};
use relievo_data::SourceSpec;
use relievo_files::{FolderLock, write_atomic};
use relievo_reproduce::{Event, RESULTS, Reproduction, Row, Table, Task};
use relievo_train::{DataSettings, GivenSettings, Outcome, Settings};

use crate::console::{Console, counted};
use crate::synth::{MOST, MOST_HEADS};
use crate::{Interrupted, sources, tables, train};

/// The recipe without `--config`.
const RECIPE: (&str, &str) =
    ("recipes/paper-tables.toml", include_str!("../../../recipes/paper-tables.toml"));

/// The file that all tables are written to.
const TABLES: &str = "results.md";

/// Train and measure the rows of a table of a paper
///
/// Trains each row of a table once for every seed. All rows share a recipe but
/// for what makes the row. Each is measured on heads that no row
/// has seen, by SIDE and MAD as in `relievo eval`. The recipe is the paper's, for
/// a GPU (recipes/paper-tables.toml); --config replaces it, and the options of
/// `relievo train` change settings of all rows.
///
/// Each row and seed is a run in the folder FOLDER/ROW/seed-N. Ctrl-C saves and
/// exits; the same command continues and skips finished rows. FOLDER/results.json
/// has all numbers, FOLDER/results.md the tables. Defaults below are those of
/// `relievo train`; the recipe takes precedence over them.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    // Sources and seeds are the tables' own.
    mut_arg("source", |source| source.hide(true).conflicts_with("table")),
    mut_arg("initial_weights", |weights| weights.hide(true).conflicts_with("table")),
    mut_arg("perceptual_features", |features| features.hide(true).conflicts_with("table")),
    mut_arg("seed", |seed| seed.hide(true).conflicts_with("table")),
    mut_arg("perturbed", |perturbed| perturbed.hide(true).conflicts_with("table")),
    mut_arg("supervision", |supervision| supervision.hide(true).conflicts_with("table")),
    mut_arg("method", |method| method.hide(true).conflicts_with("table")),
    mut_arg("pairs", |pairs| pairs.hide(true).conflicts_with("table")),
    mut_arg("synthetic_images", |images| images.hide(true).conflicts_with("table")),
    mut_arg("asymmetry", |asymmetry| asymmetry.hide(true).conflicts_with("table")),
    mut_arg("loss", |loss| loss.hide(true).conflicts_with("table")),
    mut_arg("landmark_weight", |weight| weight.hide(true).conflicts_with("table"))
)]
pub struct Options {
    /// The table
    #[arg(value_name = "TABLE", value_enum)]
    table: Table,
    /// Only this row; may be given several times
    #[arg(long, value_name = "ROW", value_enum)]
    row: Vec<Row>,
    /// Seeds of the training, each a run of every row
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [0, 1, 2])]
    seeds: Vec<u64>,
    /// Number of test heads: those that follow the recipe's
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=MOST_HEADS))]
    test_heads: u64,
    /// Steps that self-supervised features take to learn
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    feature_steps: u64,
    /// Let rows of the table `losses` learn from these photographs; their shape
    /// is still measured on heads, the reconstruction on photographs held out.
    /// Give a folder of its own with -o, and the best rows with --row
    #[arg(long, value_name = "FOLDER")]
    photographs: Option<PathBuf>,
    /// Folder of the runs and the results
    #[arg(short, long, value_name = "FOLDER", default_value = "tables")]
    out: PathBuf,
    /// TOML file with settings to use instead of the paper's
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command; `matches` are those of this subcommand.
pub fn run(options: &Options, matches: &ArgMatches, console: &Console) -> anyhow::Result<()> {
    let Options { table, row, seeds, test_heads, feature_steps, photographs, out, config, settings } =
        options;
    let rows: Vec<Row> =
        table.rows().iter().copied().filter(|of| row.is_empty() || row.contains(of)).collect();
    let strangers: Vec<&str> = row.iter().filter(|of| !rows.contains(of)).map(|of| of.name()).collect();
    let names: Vec<&str> = table.rows().iter().map(|of| of.name()).collect();
    ensure!(
        strangers.is_empty(),
        "the table {} has no row {}; it has {}",
        table.name(),
        strangers.join(", "),
        names.join(", ")
    );
    ensure!(
        photographs.is_none() || *table == Table::Losses,
        "--photographs is for the table losses; the others need to know what they see"
    );
    let given = GivenSettings::from_matches(settings, matches)?;
    let recipe = match config {
        Some(file) => Settings::layered(Some(file), Some(&given))?,
        None => Settings::from_toml(Path::new(RECIPE.0), RECIPE.1, Some(&given))?,
    };
    ensure!(
        out.join(RESULTS).exists() || !out.join(TABLES).exists(),
        "{} is none of this command's, which would write over it; give another folder with -o",
        out.join(TABLES).display()
    );
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock = FolderLock::acquire(out)?;
    let data = recipe.data.clone();
    let mut reproduction = Reproduction::open(out.clone(), recipe, *test_heads, *feature_steps)?;
    if let Some(folder) = photographs {
        let data = DataSettings { source: vec![SourceSpec::Path(folder.clone())], ..data };
        let images = data.open(&sources::registry())?;
        reproduction = reproduction.with_photographs(images, folder.clone())?;
    }
    let heads = reproduction.heads();
    console.note(format_args!(
        "{} {} to learn from, {} to validate on, {} to measure on; {} of each row",
        heads.training,
        if photographs.is_some() { "photographs" } else { "heads" },
        heads.validation,
        heads.test,
        counted(reproduction.steps(), "step")
    ));
    let stop = train::stop_on_ctrl_c(*console, train::SAVING)?;
    let tasks = Task::for_rows(&rows, seeds);
    let mut interrupted = false;
    for (number, task) in (1..).zip(&tasks) {
        let name = match task.seed {
            Some(seed) => format!("{number} of {}: {}, seed {seed}", tasks.len(), task.row.title()),
            None => format!("{number} of {}: {}", tasks.len(), task.row.title()),
        };
        if reproduction.is_done(*task)? {
            console.note(format_args!("{name} (done before)"));
            continue;
        }
        console.note(format_args!("{name}"));
        let mut display = train::Display::new(console);
        let mut show = |event: Event<'_>| match event {
            Event::Features { step, steps, loss } => display.show_features(step, steps, loss),
            Event::Run(event) => display.show(&event),
            _ => {}
        };
        let outcome = reproduction.run(*task, &mut show, &stop)?;
        drop(display);
        write_tables(&reproduction, out)?;
        if outcome != Outcome::Finished || (stop.load(Ordering::Relaxed) && number < tasks.len()) {
            console.note("stopped; the same command goes on from here");
            interrupted = true;
            break;
        }
    }
    write_tables(&reproduction, out)?;
    console.result(tables::plain(*table, reproduction.results()));
    if interrupted { Err(Interrupted.into()) } else { Ok(()) }
}

/// Writes all tables of which there is a row.
fn write_tables(reproduction: &Reproduction, out: &Path) -> anyhow::Result<()> {
    let tables: Vec<String> =
        Table::ALL.iter().filter_map(|table| tables::markdown(*table, reproduction.results())).collect();
    if !tables.is_empty() {
        write_atomic(out.join(TABLES), |file| write!(file, "{}", tables.join("\n")))?;
    }
    Ok(())
}
