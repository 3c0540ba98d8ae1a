//! Trains and measures the router of the crate `relievo-weights-research`.
//!
//! Scenes are composed as they are needed; a part of each kind of images is held out by a hash of their names: half of it
//! sets the thresholds, on the other half the router is measured. With `--router` a router is only measured, with
//! `--calibrate` its thresholds are set anew.
//!
//! ```text
//! cargo run --release -p relievo-detect --example train_router -- --of human-face=faces.tar --of cat-face=cats.tar \
//!     --things things.tar --photographs photographs.tar --model human-face=faces --model cat-face=cats -o router.safetensors
//! ```

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use relievo_data::{Image, Images, Rectangle};
use relievo_detect::router::{
    Composed, Confusion, Material, Router, RouterData, RouterEvaluation, RouterTraining, Trained, calibrate,
    evaluate, train,
};

/// Rows and columns of the image that the router is timed on.
const TIMED: [u32; 2] = [640, 480];

/// Looks that the time is the median of.
const LOOKS: usize = 31;

/// Steps from one line about the losses to the next.
const REPORT: u64 = 100;

/// Train a router, or measure one
#[derive(Parser)]
struct Options {
    /// A category and its crops, as NAME=PATH; several for several categories or archives
    #[arg(long = "of", required = true, value_name = "NAME=PATH", value_parser = pair)]
    categories: Vec<(String, String)>,
    /// Pictures of anything else; crops of one picture have names that differ behind the last -
    #[arg(long, required = true, value_name = "PATH")]
    things: Vec<PathBuf>,
    /// Leave out things whose names hold one of these words: they show a category
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    except: Vec<String>,
    /// Whole photographs
    #[arg(long, required = true, value_name = "PATH")]
    photographs: Vec<PathBuf>,
    /// The weights that a category's images go to, as NAME=WEIGHTS
    #[arg(long = "model", value_name = "NAME=WEIGHTS", value_parser = pair)]
    models: Vec<(String, String)>,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "router.safetensors")]
    out: PathBuf,
    /// Measure this router and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calibrate", "initial"])]
    router: Option<PathBuf>,
    /// Do not train: set the thresholds of this router anew
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Begin with the weights of this router
    #[arg(long, value_name = "FILE", conflicts_with = "calibrate")]
    initial: Option<PathBuf>,
    /// Steps of the optimiser
    #[arg(long, default_value_t = RouterTraining::default().steps)]
    steps: u64,
    /// Scenes in each step
    #[arg(long, default_value_t = RouterTraining::default().batch_size)]
    batch_size: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = RouterTraining::default().learning_rate)]
    learning_rate: f64,
    /// Seed of the scenes and of the initial weights
    #[arg(long, default_value_t = RouterTraining::default().seed)]
    seed: u64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is written as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let material = load(&options)?;
    if let Some(path) = &options.router {
        return report(&fs::read(path)?, &material, &options);
    }
    let read = |path: &PathBuf| -> Result<Trained, Box<dyn Error>> {
        Ok(Trained::from_router(&Router::from_safetensors(&fs::read(path)?)?, &material.categories)?)
    };
    let trained = match &options.calibrate {
        Some(path) => read(path)?,
        None => learn(&options, &material, options.initial.as_ref().map(read).transpose()?.as_ref())?,
    };
    let models: Vec<(&str, &str)> =
        options.models.iter().map(|(name, model)| (name.as_str(), model.as_str())).collect();
    let bytes = calibrate(trained, &material, &models)?.to_safetensors();
    fs::write(&options.out, &bytes)?;
    println!("written to {}", options.out.display());
    report(&bytes, &material, &options)
}

fn load(options: &Options) -> Result<Material, Box<dyn Error>> {
    let mut data = RouterData {
        things: options.things.clone(),
        except: options.except.clone(),
        photographs: options.photographs.clone(),
        ..RouterData::default()
    };
    for (name, path) in &options.categories {
        match data.categories.iter_mut().find(|(known, _)| known == name) {
            Some((_, paths)) => paths.push(path.into()),
            None => data.categories.push((name.clone(), vec![path.into()])),
        }
    }
    let material = Material::load(&data)?;
    material.describe().iter().for_each(|line| println!("{line}"));
    println!("{} of the other things left out: they show a category", material.left_out);
    Ok(material)
}

fn learn(
    options: &Options,
    material: &Material,
    initial: Option<&Trained>,
) -> Result<Trained, Box<dyn Error>> {
    let &Options { steps, batch_size, learning_rate, seed, .. } = options;
    let settings = RouterTraining { steps, batch_size, learning_rate, seed };
    let start = Instant::now();
    let mut sums = [0.0; 3];
    Ok(train(material, &settings, initial, |step, _| {
        sums.iter_mut().zip(step.losses).for_each(|(sum, loss)| *sum += loss / REPORT as f32);
        if step.step.is_multiple_of(REPORT) {
            let [category, frame, picture] = std::mem::take(&mut sums);
            let seconds = start.elapsed().as_secs();
            println!("{:>6}  {category:.3}  {frame:.3}  {picture:.3}  {seconds} s", step.step);
        }
        true
    })?)
}

/// Measures the router in a file and prints what was found.
fn report(bytes: &[u8], material: &Material, options: &Options) -> Result<(), Box<dyn Error>> {
    let router = Router::from_safetensors(bytes)?;
    let RouterEvaluation { confusion, composed, altered, sharpness, .. } = evaluate(&router, material)?;
    print_confusion(&confusion);
    println!();
    for (name, found) in confusion.categories.iter().zip(&composed) {
        print_composed(name, found);
    }
    println!();
    for how in &altered {
        println!(
            "{:<32}  {} of {} take another category, {} none",
            how.how, how.changed, how.images, how.lost
        );
    }
    let [files, scenes] = sharpness;
    println!(
        "sharpness alone orders {:.0} % of pairs of the first two categories in the files, {:.0} % in training scenes",
        100.0 * files,
        100.0 * scenes
    );
    println!();
    println!("size      {:.0} KiB", bytes.len() as f64 / 1024.0);
    let photograph = photograph(options)?;
    println!(
        "one look  {:.1} ms ({} x {} pixels, {} threads, median of {LOOKS})",
        milliseconds(&router, &photograph)?,
        photograph.width,
        photograph.height,
        rayon::current_num_threads()
    );
    Ok(())
}

fn print_confusion(confusion: &Confusion) {
    let columns: Vec<String> = confusion.categories.iter().map(|name| format!("{name:>14}")).collect();
    println!("{:<16}{:>8}{}{:>14}", "shows", "images", columns.concat(), "nothing known");
    let rows = confusion.categories.iter().map(String::as_str).chain(["other things"]);
    for (row, name) in rows.enumerate() {
        let shares: Vec<String> = (0..confusion.counts[row].len())
            .map(|column| format!("{:>12.2} %", 100.0 * confusion.share(row, column)))
            .collect();
        let images: usize = confusion.counts[row].iter().sum();
        println!("{name:<16}{images:>8}{}", shares.concat());
    }
    for ((name, threshold), error) in
        confusion.categories.iter().zip(&confusion.thresholds).zip(&confusion.calibration_error)
    {
        println!("{name:<16}threshold {threshold:.2}, calibration error {error:.3}");
    }
}

fn print_composed(name: &str, found: &Composed) {
    let &Composed { objects, found, overlap, false_alarms, photographs, .. } = found;
    println!(
        "{name} in {photographs} composed photographs: {:.1} % of {objects} found (mean overlap {overlap:.2}), \
         {false_alarms} false alarms",
        100.0 * found as f64 / objects.max(1) as f64
    );
}

/// The first photograph, at the size that is timed.
fn photograph(options: &Options) -> Result<Image, Box<dyn Error>> {
    let image = Images::open(&options.photographs)?.image(0)?;
    let all = Rectangle { left: 0.0, top: 0.0, width: image.width.into(), height: image.height.into() };
    Ok(image.resampled(all, TIMED[0], TIMED[1]))
}

fn milliseconds(router: &Router, image: &Image) -> Result<f64, Box<dyn Error>> {
    router.look(image)?;
    let mut times = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let start = Instant::now();
        router.look(image)?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[LOOKS / 2])
}
