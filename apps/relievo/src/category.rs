//! `relievo category`: which weights an image wants, and categories of one's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use relievo::{Categories, CategoriesError, Image};
use relievo_data::{Images, Source};
use relievo_detect::router::{LEAST_IMAGES, RouterCategory};

use crate::console::{Console, counted};
use crate::weights;

/// Tell what images show, and add categories of your own
///
/// `relievo reconstruct` without --model looks what is in an image and takes the
/// weights for it: human faces, cats' faces, or a category that you add here.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    List(ListOptions),
    Add(AddOptions),
    Remove(RemoveOptions),
}

/// Where a user's own categories are kept.
#[derive(Args)]
pub struct FileOptions {
    /// File of your own categories [default: that which RELIEVO_CATEGORIES names, else
    /// relievo/categories.json in the system's folder for configuration]
    #[arg(long, value_name = "FILE")]
    categories: Option<PathBuf>,
}

impl FileOptions {
    fn open(&self) -> Result<Categories, CategoriesError> {
        let path = self.categories.clone().map_or_else(Categories::default_path, Ok)?;
        Categories::open(path)
    }

    /// The user's own categories for images of which no model is named; none where the program has no router. What cannot
    /// be read is an error only if the file was named.
    pub fn own(&self, console: &Console) -> anyhow::Result<Vec<RouterCategory>> {
        match self.open() {
            Ok(categories) => Ok(categories.own().to_vec()),
            Err(CategoriesError::NoRouter) if self.categories.is_none() => Ok(Vec::new()),
            Err(CategoriesError::NoFolder) => Ok(Vec::new()),
            Err(error) if self.categories.is_some() => Err(error.into()),
            Err(error) => {
                console.warning(format_args!("your own categories are left out: {error}"));
                Ok(Vec::new())
            }
        }
    }
}

/// Print the categories that images are told apart by
#[derive(Args)]
struct ListOptions {
    #[command(flatten)]
    file: FileOptions,
}

/// Add a category: what its images look like, and the model for them
///
/// The images are those that the model learned from, or others like them, framed
/// in the same way; 20 do. They are not kept: a direction in the features of the
/// router is made of them, without any training. Images that are cropped like
/// these are recognised, as a whole.
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct AddOptions {
    /// Name of the category: letters, digits and hyphens
    name: String,
    /// Weights file or folder of a training run that reconstructs it
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// Images, folders and archives of images that show it
    #[arg(long, required = true, value_name = "IMAGES", num_args = 1.., alias = "pictures")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    file: FileOptions,
}

/// Remove a category of your own
#[derive(Args)]
struct RemoveOptions {
    /// Its name
    name: String,
    #[command(flatten)]
    file: FileOptions,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    match &options.task {
        Task::List(options) => list(options, console),
        Task::Add(options) => add(options, console),
        Task::Remove(options) => remove(options, console),
    }
}

fn list(options: &ListOptions, console: &Console) -> anyhow::Result<()> {
    let categories = options.file.open()?;
    let row = |category: &RouterCategory, whose: &str| {
        let RouterCategory { name, model, threshold, .. } = category;
        console.result(format_args!("{name:<20}  {model:<20}  from {threshold:.2}  {whose}"));
    };
    categories.built_in().iter().for_each(|category| row(category, "in the program"));
    for category in categories.own() {
        row(category, &format!("made from {}", counted(category.images as u64, "image")));
    }
    if !categories.own().is_empty() {
        console.note(format_args!("your own are in {}", categories.path().display()));
    }
    Ok(())
}

fn add(options: &AddOptions, console: &Console) -> anyhow::Result<()> {
    let AddOptions { name, model, images, file } = options;
    let mut categories = file.open()?;
    let model = absolute(model)?;
    let found = Images::open(images)?;
    found.warnings().iter().for_each(|warning| console.warning(warning));
    let decoded: Vec<Image> = (0..found.len()).map(|index| found.image(index)).collect::<Result<_, _>>()?;
    let recognised = categories.add(name, &model, &decoded)?;
    categories.save()?;
    let count = counted(decoded.len() as u64, "image");
    console.result(format_args!("{name} goes to {model}; {recognised} of {count} are known by the others"));
    if 2 * recognised < decoded.len() {
        console.warning(format_args!(
            "the images of {name} do not look alike to the router: it will miss many; more of them may help"
        ));
    }
    if decoded.len() < 4 * LEAST_IMAGES {
        console.note(format_args!("20 images or more make a better category than {count}"));
    }
    Ok(())
}

/// The weights' name in the program, or their path from anywhere; they must be of a model.
fn absolute(model: &Path) -> anyhow::Result<String> {
    let chosen = weights::choose(Some(model))?;
    chosen.load()?;
    Ok(match chosen {
        relievo::Weights::File(path) => {
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            let text = path.to_str().map(str::to_owned);
            ensure!(text.is_some(), "the path {} is not in Unicode and cannot be kept", path.display());
            text.unwrap_or_default()
        }
        _ => model.display().to_string(),
    })
}

fn remove(options: &RemoveOptions, console: &Console) -> anyhow::Result<()> {
    let mut categories = options.file.open()?;
    categories.remove(&options.name)?;
    categories.save()?;
    console.result(format_args!("removed {}", options.name));
    Ok(())
}
