//! Categories of one's own, kept in a small file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use relievo_data::Image;
use relievo_detect::router::{Router, RouterCategory, RouterError};
use relievo_files::{WriteError, write_atomic};
use serde::{Deserialize, Serialize};

use crate::routing;

/// The environment variable that names the file.
const VARIABLE: &str = "RELIEVO_CATEGORIES";

/// The longest name of a category.
const LONGEST_NAME: usize = 40;

/// Categories that cannot be read, changed or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CategoriesError {
    /// This build has no router.
    #[error("this program has no router: it was built without the feature `weights-research`")]
    NoRouter,
    /// There is no folder for configuration.
    #[error("the system names no folder for configuration")]
    NoFolder,
    /// A file that cannot be read.
    #[error("cannot read the categories in {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of something else.
    #[error("{} holds no categories: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Categories made with another router.
    #[error(
        "the categories in {} were made with another version of the router; delete that file and add them again",
        .0.display()
    )]
    OtherRouter(
        /// The file.
        PathBuf,
    ),
    /// A name that cannot be one.
    #[error("{0:?} is no name of a category: letters, digits and hyphens, at most {LONGEST_NAME}")]
    Name(String),
    /// A name that is taken.
    #[error("there is a category {0} already")]
    Taken(String),
    /// One of the program's own.
    #[error("{0} is one of the program's own categories")]
    BuiltIn(String),
    /// A name that no category has.
    #[error("there is no category {0}")]
    Unknown(String),
    /// Images that make no category.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Content {
    /// The fingerprint of the router whose features the categories are directions of.
    router: u32,
    categories: Vec<RouterCategory>,
}

/// A user's own categories, beside those of the program.
pub struct Categories {
    path: PathBuf,
    router: Router,
    own: Vec<RouterCategory>,
}

impl Categories {
    /// Where they are kept if nothing is said: the file that `RELIEVO_CATEGORIES` names, else `relievo/categories.json` in
    /// the platform's folder for configuration.
    ///
    /// # Errors
    /// [`CategoriesError::NoFolder`] if the system has none.
    pub fn default_path() -> Result<PathBuf, CategoriesError> {
        if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        let folder = dirs::config_dir().ok_or(CategoriesError::NoFolder)?;
        Ok(folder.join("relievo/categories.json"))
    }

    /// Those in a file; none if it is not there.
    ///
    /// # Errors
    /// If this build has no router, or the file cannot be read, is of another kind, or was made with another router.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CategoriesError> {
        let path = path.into();
        let router = routing::embedded().map_err(damaged_program)?.ok_or(CategoriesError::NoRouter)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, router, own: Vec::new() });
            }
            Err(source) => return Err(CategoriesError::Unreadable { path, source }),
        };
        let content: Content = serde_json::from_str(&text)
            .map_err(|error| CategoriesError::Damaged { path: path.clone(), reason: error.to_string() })?;
        if content.router != router.fingerprint() {
            return Err(CategoriesError::OtherRouter(path));
        }
        // Whether they fit is found out here, not at the first image.
        let fits = router.clone().with_categories(content.categories.clone());
        fits.map_err(|error| CategoriesError::Damaged { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { path, router, own: content.categories })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program's own.
    pub fn built_in(&self) -> &[RouterCategory] {
        self.router.categories()
    }

    /// The user's own, in the order in which they were added.
    pub fn own(&self) -> &[RouterCategory] {
        &self.own
    }

    /// Adds a category from images that show it, as the model at `model` (a name of embedded weights or a path) takes
    /// them; gives how many of them are recognised by a prototype of the others. Nothing is written before
    /// [`Categories::save`].
    ///
    /// # Errors
    /// If the name cannot be one or is taken, or the images make no category.
    pub fn add(&mut self, name: &str, model: &str, images: &[Image]) -> Result<usize, CategoriesError> {
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_allowed) {
            return Err(CategoriesError::Name(name.to_owned()));
        }
        if self.built_in().iter().chain(&self.own).any(|category| category.name == name) {
            return Err(CategoriesError::Taken(name.to_owned()));
        }
        let (category, recognised) = self.router.prototype(name, model, images)?;
        self.own.push(category);
        Ok(recognised)
    }

    /// Removes one of the user's own.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn remove(&mut self, name: &str) -> Result<(), CategoriesError> {
        if self.built_in().iter().any(|category| category.name == name) {
            return Err(CategoriesError::BuiltIn(name.to_owned()));
        }
        let before = self.own.len();
        self.own.retain(|category| category.name != name);
        if self.own.len() == before { Err(CategoriesError::Unknown(name.to_owned())) } else { Ok(()) }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<(), CategoriesError> {
        let content = Content { router: self.router.fingerprint(), categories: self.own.clone() };
        let text = serde_json::to_string_pretty(&content).expect("names and numbers");
        Ok(write_atomic(&self.path, |file| writeln!(file, "{text}"))?)
    }
}

/// The embedded router does not read.
fn damaged_program(error: crate::Error) -> CategoriesError {
    CategoriesError::Damaged { path: "the program".into(), reason: error.to_string() }
}
