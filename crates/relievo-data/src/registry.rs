//! Sources by their names: what a command line or a settings file says, and what it opens.
//!
//! Images on disk are named by their paths. A source that a program makes itself is registered under a name:
//!
//! ```
//! use std::sync::Arc;
//!
//! use relievo_data::{Image, Registry, Sample, SampleError, Source, SourceSpec};
//!
//! /// So many images of one grey.
//! struct Grey(u64);
//!
//! impl Source for Grey {
//!     fn describe(&self) -> String {
//!         format!("{} grey images", self.0)
//!     }
//!     fn len(&self) -> u64 {
//!         self.0
//!     }
//!     fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
//!         let image = Image { width: size, height: size, pixels: vec![128; (size * size * 3) as usize] };
//!         Ok(Sample { name: self.name(index), image, truth: None, points: None })
//!     }
//! }
//!
//! let registry = Registry::default().register("grey", |(), count| {
//!     let count = count.parse().map_err(|_| format!("{count:?} is not a number of images"))?;
//!     Ok(Arc::new(Grey(count)))
//! });
//! let source = registry.open(&(), &[SourceSpec::from("grey:100")])?;
//! assert_eq!(source.len(), 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::images::{Images, OpenError};
use crate::joined::Joined;
use crate::sample::Source;

/// The name of synthetic heads, which trainings learn from where nothing else is said. The one name that needs no colon.
pub const SYNTHETIC: &str = "synthetic";

/// The name of a source.
///
/// `NAME:` and `NAME:ARGUMENTS` stand for what a program has registered under NAME (two or more of `a-z`, `0-9` and `-`,
/// a letter first), and so does the word `synthetic` alone; everything else is a path. `./synthetic` is a path, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum SourceSpec {
    /// Images that a program makes.
    Registered {
        /// The name in the [`Registry`].
        name: String,
        /// What stands behind the colon; may be empty.
        arguments: String,
    },
    /// A folder of images, a shard, or an image.
    Path(PathBuf),
}

impl SourceSpec {
    /// The source registered under this name, without arguments.
    pub fn registered(name: &str) -> Self {
        Self::Registered { name: name.to_owned(), arguments: String::new() }
    }

    /// Whether a program makes these images.
    pub fn is_registered(&self) -> bool {
        matches!(self, Self::Registered { .. })
    }
}

impl From<&str> for SourceSpec {
    fn from(text: &str) -> Self {
        let is_name = |name: &str| {
            name.len() > 1
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        match text.split_once(':') {
            _ if text == SYNTHETIC => Self::registered(SYNTHETIC),
            Some((name, arguments)) if is_name(name) => {
                Self::Registered { name: name.to_owned(), arguments: arguments.to_owned() }
            }
            _ => Self::Path(text.into()),
        }
    }
}

impl From<String> for SourceSpec {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl FromStr for SourceSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl From<SourceSpec> for String {
    fn from(spec: SourceSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, arguments } if name == SYNTHETIC && arguments.is_empty() => {
                f.write_str(name)
            }
            Self::Registered { name, arguments } => write!(f, "{name}:{arguments}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Images on disk.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A name that is not registered.
    #[error(
        "no source is called {name}; there is {}. A folder of that name is written ./{name}", .known.join(", ")
    )]
    Unknown {
        /// The name.
        name: String,
        /// The names that are registered.
        known: Vec<String>,
    },
    /// A registered source that cannot be made as asked for.
    #[error("cannot open the source {spec}: {reason}")]
    Refused {
        /// The source.
        spec: SourceSpec,
        /// Why not.
        reason: String,
    },
}

type Make<S> = Box<dyn Fn(&S, &str) -> Result<Arc<dyn Source>, String> + Send + Sync>;

/// The sources that a program makes itself, by name. `S` is what they are made by besides their arguments: settings of a
/// run, say.
pub struct Registry<S = ()> {
    made: Vec<(String, Make<S>)>,
}

impl<S> Default for Registry<S> {
    /// Images on disk only.
    fn default() -> Self {
        Self { made: Vec::new() }
    }
}

impl<S> Registry<S> {
    /// Adds a source: `make` gets the settings and what stands behind the colon, and returns the source or the reason
    /// why not, for a person. A name that was registered before stands for the new source.
    pub fn register(
        mut self,
        name: &str,
        make: impl Fn(&S, &str) -> Result<Arc<dyn Source>, String> + Send + Sync + 'static,
    ) -> Self {
        self.made.retain(|(known, _)| known != name);
        self.made.push((name.to_owned(), Box::new(make)));
        self
    }

    /// Opens some sources as one: first all images on disk, as one [`Images`], then each registered source, in the
    /// order of `specs`. A registered source that is named twice is there once.
    ///
    /// # Errors
    /// If a name is not registered, a registered source refuses its settings or arguments, or the images on disk cannot
    /// be read or there are none. Without any specs there are none.
    pub fn open(&self, settings: &S, specs: &[SourceSpec]) -> Result<Arc<dyn Source>, SourceError> {
        let (mut paths, mut registered) = (Vec::new(), Vec::new());
        for spec in specs {
            match spec {
                SourceSpec::Path(path) => paths.push(path),
                SourceSpec::Registered { name, arguments } => registered.push((name, arguments)),
            }
        }
        let is_new = |at: &usize| !registered[..*at].contains(&registered[*at]);
        let made = (0..registered.len()).filter(is_new).map(|at| self.make(settings, registered[at]));
        let mut made = made.collect::<Result<Vec<_>, _>>()?;
        if !paths.is_empty() || made.is_empty() {
            made.insert(0, Arc::new(Images::open(&paths)?));
        }
        Ok(if made.len() == 1 { made.remove(0) } else { Arc::new(Joined::new(made)) })
    }

    fn make(
        &self,
        settings: &S,
        (name, arguments): (&String, &String),
    ) -> Result<Arc<dyn Source>, SourceError> {
        let Some((_, make)) = self.made.iter().find(|(known, _)| known == name) else {
            let known = self.made.iter().map(|(known, _)| known.clone()).collect();
            return Err(SourceError::Unknown { name: name.clone(), known });
        };
        make(settings, arguments).map_err(|reason| {
            let spec = SourceSpec::Registered { name: name.clone(), arguments: arguments.clone() };
            SourceError::Refused { spec, reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::Plain;

    fn specs(texts: &[&str]) -> Vec<SourceSpec> {
        texts.iter().map(|text| (*text).into()).collect()
    }

    /// `synthetic` has as many images as the settings say, `plain:N` has N.
    fn registry() -> Registry<u64> {
        let by_arguments = |_: &u64, count: &str| -> Result<Arc<dyn Source>, String> {
            Ok(Arc::new(Plain(count.parse().map_err(|_| format!("{count:?} is no number"))?, 2)))
        };
        Registry::default()
            .register("synthetic", |count: &u64, _| Ok(Arc::new(Plain(*count, 1))))
            .register("plain", by_arguments)
    }

    #[test]
    fn names_and_paths_are_told_apart_and_written_as_they_were_read() {
        for (text, is_registered) in [
            ("synthetic", true),
            ("plain:", true),
            ("plain-2:3 4", true),
            ("faces", false),
            ("./synthetic", false),
            ("./plain:", false),
            ("/data/a:b", false),
            ("C:\\faces", false),
            ("c:faces", false),
            ("Plain:3", false),
            (":3", false),
            ("", false),
        ] {
            let spec = SourceSpec::from(text);
            assert_eq!((spec.is_registered(), spec.to_string().as_str()), (is_registered, text));
        }
        assert_eq!(specs(&["synthetic"]), specs(&["synthetic:"]));
    }

    #[test]
    fn images_on_disk_come_first_and_every_registered_source_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), [1]).unwrap();
        let path = folder.path().to_str().unwrap();
        let open = |texts: &[&str]| registry().open(&3, &specs(texts)).unwrap();
        let all = open(&["plain:2", "synthetic", path, "plain:2", "plain:1"]);
        assert_eq!((all.len(), all.name(0).as_str()), (1 + 2 + 3 + 1, "a.png"));
        assert!(all.describe().ends_with(", 2 of 2, 3 of 1, 1 of 2)"), "{}", all.describe());
        assert_eq!((open(&["synthetic"]).describe(), open(&[path]).len()), ("3 of 1".to_owned(), 1));
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let message = |texts: &[&str]| registry().open(&3, &specs(texts)).err().unwrap().to_string();
        let unknown = "no source is called shapes; there is synthetic, plain. A folder of that name is written ./shapes";
        assert_eq!(message(&["synthetic", "shapes:3"]), unknown);
        assert_eq!(message(&["plain:x"]), "cannot open the source plain:x: \"x\" is no number");
        assert!(message(&["nowhere", "synthetic"]).starts_with("nowhere does not exist"));
        assert!(message(&[]).starts_with("no images in "));
        // The last one of a name counts.
        let again = registry().register("synthetic", |_, _| Err("out of heads".into()));
        let error = again.open(&3, &specs(&["synthetic"])).err().unwrap().to_string();
        assert_eq!(error, "cannot open the source synthetic: out of heads");
    }
}
