//! Holding out a part of a source for validation.

use std::sync::Arc;

use relievo_tensor::Random;

use crate::objects::Objects;
use crate::sample::{Sample, SampleError, Source};

/// How much is held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holdout {
    /// About this share, in \[0,1). An image stays on its side when others are added or removed, as long as it keeps
    /// its name: one folder given alone and the same beside another have other names for their images.
    Fraction(f64),
    /// Exactly this many.
    Count(u64),
    /// The last ones of the source, this many: where the order is part of what the images are.
    Last(u64),
}

/// A source in two parts that share no image.
pub struct Split {
    /// Images to train on.
    pub train: Subset,
    /// Images held out.
    pub validation: Subset,
}

/// A split that leaves nothing to train on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The share is not in \[0,1).
    #[error("cannot hold out a share of {0}: it must be at least 0 and less than 1")]
    Fraction(f64),
    /// Nothing is left for training.
    #[error("holding out {held_out} of {all} images leaves none to learn from: hold out fewer")]
    NothingLeft {
        /// Images held out.
        held_out: u64,
        /// Images in all.
        all: u64,
    },
}

impl Split {
    /// Splits by a hash of each image's name, but for [`Holdout::Last`]: the order of the files, the seed of the
    /// training and the machine make no difference. Both parts keep the order of the source.
    ///
    /// # Errors
    /// If the share is not in \[0,1) or no image is left for training.
    pub fn new(source: Arc<dyn Source>, holdout: Holdout) -> Result<Self, SplitError> {
        let name = |index: u64| source.name(index);
        let held_out = held_out(source.len(), holdout, name, |_| 1)?;
        Self::with(source, held_out)
    }

    /// As [`Split::new`], with all images of an object ([`Source::object`]) on the same side, by a hash of its name. A number
    /// of images holds out as many objects as have that many together.
    ///
    /// # Errors
    /// As [`Split::new`].
    pub fn by_object(source: Arc<dyn Source>, holdout: Holdout) -> Result<Self, SplitError> {
        let objects = Objects::of(&*source);
        let name = |object: u64| {
            let first = objects.images(object)[0];
            source.object(first).unwrap_or_else(|| source.name(first))
        };
        let images = |object: u64| objects.images(object).len() as u64;
        let held_out = held_out(objects.len(), holdout, name, images)?;
        let images = held_out.iter().flat_map(|object| objects.images(*object).iter().copied());
        Self::with(source, images.collect())
    }

    fn with(source: Arc<dyn Source>, mut validation: Vec<u64>) -> Result<Self, SplitError> {
        validation.sort_unstable();
        let mut held_out = validation.iter().peekable();
        let is_kept = |index: &u64| held_out.next_if_eq(&index).is_none();
        let train: Vec<u64> = (0..source.len()).filter(is_kept).collect();
        if train.is_empty() {
            return Err(SplitError::NothingLeft { held_out: validation.len() as u64, all: source.len() });
        }
        let part = |indices| Subset { source: Arc::clone(&source), indices };
        Ok(Self { train: part(train), validation: part(validation) })
    }
}

/// Which of `all` groups of images are held out.
fn held_out(
    all: u64,
    holdout: Holdout,
    name: impl Fn(u64) -> String,
    images: impl Fn(u64) -> u64,
) -> Result<Vec<u64>, SplitError> {
    let hash = |group: &u64| Random::named(0, &name(*group)).bits(0);
    let (order, count): (Vec<u64>, u64) = match holdout {
        Holdout::Fraction(share) if !(0.0..1.0).contains(&share) => return Err(SplitError::Fraction(share)),
        Holdout::Fraction(share) => {
            let bound = (share * 2_f64.powi(64)) as u64;
            return Ok((0..all).filter(|group| hash(group) < bound).collect());
        }
        Holdout::Count(count) => {
            let mut order: Vec<u64> = (0..all).collect();
            order.sort_by_cached_key(|group| (hash(group), *group));
            (order, count)
        }
        Holdout::Last(count) => ((0..all).rev().collect(), count),
    };
    let mut so_far = 0;
    let is_within = |group: &u64| {
        let before = so_far;
        so_far += images(*group);
        before < count
    };
    Ok(order.into_iter().take_while(is_within).collect())
}

/// Some of the images of a source.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<u64>,
}

impl Source for Subset {
    fn describe(&self) -> String {
        format!("{} of {}", self.indices.len(), self.source.describe())
    }

    fn warnings(&self) -> Vec<String> {
        self.source.warnings()
    }

    fn len(&self) -> u64 {
        self.indices.len() as u64
    }

    fn name(&self, index: u64) -> String {
        self.source.name(self.indices[index as usize])
    }

    fn object(&self, index: u64) -> Option<String> {
        self.source.object(self.indices[index as usize])
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        self.source.sample(self.indices[index as usize], size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Images that have names and nothing else.
    struct Names(Vec<String>);

    impl Source for Names {
        fn describe(&self) -> String {
            "names".into()
        }
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn name(&self, index: u64) -> String {
            self.0[index as usize].clone()
        }
        fn sample(&self, index: u64, _size: u32) -> Result<Sample, SampleError> {
            Err(SampleError { name: self.name(index), reason: "only a name".into() })
        }
    }

    fn names(part: &Subset) -> Vec<String> {
        (0..part.len()).map(|index| part.name(index)).collect()
    }

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_whole_and_do_not_depend_on_the_order(
            all in proptest::collection::hash_set("[a-z]{1,6}", 2..60),
            share in 0.0..0.9_f64,
        ) {
            let forth: Vec<String> = all.into_iter().collect();
            let mut back = forth.clone();
            back.reverse();
            let count = (share * forth.len() as f64) as u64;
            for holdout in [Holdout::Fraction(share), Holdout::Count(count)] {
                let Ok(a) = Split::new(Arc::new(Names(forth.clone())), holdout) else {
                    // Chance may send every name of a small set to one side.
                    prop_assert!(matches!(holdout, Holdout::Fraction(_)));
                    continue;
                };
                let b = Split::new(Arc::new(Names(back.clone())), holdout).unwrap();
                prop_assert_eq!(sorted(names(&a.train)), sorted(names(&b.train)));
                prop_assert_eq!(sorted(names(&a.validation)), sorted(names(&b.validation)));
                let together = [names(&a.train), names(&a.validation)].concat();
                prop_assert_eq!(sorted(together), sorted(forth.clone()));
                if let Holdout::Count(count) = holdout {
                    prop_assert_eq!(a.validation.len(), count);
                }
            }
        }
    }

    #[test]
    fn a_share_is_about_kept_and_survives_new_images() {
        let few: Vec<String> = (0..5000).map(|n| format!("faces/{n}.jpg")).collect();
        let more: Vec<String> = (0..6000).map(|n| format!("faces/{n}.jpg")).collect();
        let holdout = Holdout::Fraction(0.1);
        let few = names(&Split::new(Arc::new(Names(few)), holdout).unwrap().validation);
        let more = names(&Split::new(Arc::new(Names(more)), holdout).unwrap().validation);
        assert!((400..600).contains(&few.len()), "{}", few.len());
        assert!(few.iter().all(|name| more.contains(name)));
    }

    #[test]
    fn the_last_ones_are_held_out_if_asked_for() {
        let all = || Arc::new(Names((0..9).map(|n| n.to_string()).collect()));
        let split = Split::new(all(), Holdout::Last(2)).unwrap();
        assert_eq!(names(&split.validation), ["7", "8"]);
        assert_eq!(names(&split.train), ["0", "1", "2", "3", "4", "5", "6"]);
        assert!(Split::new(all(), Holdout::Last(9)).is_err());
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        let source = || Arc::new(Names(vec!["a".into(), "b".into()]));
        let error = Split::new(source(), Holdout::Count(2)).err().unwrap();
        assert_eq!(error, SplitError::NothingLeft { held_out: 2, all: 2 });
        assert_eq!(Split::new(source(), Holdout::Fraction(1.0)).err().unwrap(), SplitError::Fraction(1.0));
        assert!(Split::new(source(), Holdout::Fraction(f64::NAN)).is_err());
        assert_eq!(Split::new(source(), Holdout::Count(0)).unwrap().validation.len(), 0);
    }

    /// Four images of each object, and one of which nothing is known.
    struct Objects(u64);

    impl Source for Objects {
        fn describe(&self) -> String {
            "objects".into()
        }
        fn len(&self) -> u64 {
            4 * self.0 + 1
        }
        fn object(&self, index: u64) -> Option<String> {
            (index < 4 * self.0).then(|| (index / 4).to_string())
        }
        fn sample(&self, index: u64, _size: u32) -> Result<Sample, SampleError> {
            Err(SampleError { name: self.name(index), reason: "only a name".into() })
        }
    }

    #[test]
    fn an_object_is_on_one_side() {
        let split = |holdout| Split::by_object(Arc::new(Objects(50)), holdout).unwrap();
        for (holdout, held_out) in [
            (Holdout::Fraction(0.3), None),
            (Holdout::Count(17), Some(17..=20)),
            (Holdout::Last(6), Some(9..=9)),
        ] {
            let Split { train, validation } = split(holdout);
            assert_eq!(train.len() + validation.len(), 201);
            let objects =
                |part: &Subset| -> Vec<_> { (0..part.len()).map(|index| part.object(index)).collect() };
            let known = objects(&train);
            assert!(!objects(&validation).iter().any(|object| object.is_some() && known.contains(object)));
            assert!(held_out.unwrap_or(30..=90).contains(&validation.len()), "{}", validation.len());
        }
        let few = Split::by_object(Arc::new(Objects(1)), Holdout::Count(5));
        assert_eq!(few.err(), Some(SplitError::NothingLeft { held_out: 5, all: 5 }));
    }
}
